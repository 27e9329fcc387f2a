"""The state of a simulated cluster: its allowed changes, and one host for each domain."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated import (
    Cluster,
    ClusterDescription,
    ClusterError,
    DomainDescription,
    HostDescription,
    LinkDescription,
)
from fastlib.migfra.virt.precopy import MIB
from fastlib.migfra.virt.saved_state import StartOrder
from tests.support.migfra.simulation import GIB, cluster_of


def test_cluster_in_file_is_created_once(tmp_path):
    file = tmp_path / "cluster"
    description = cluster_of(("vm1", "a"), seed=7)
    with Cluster(description, file) as one, Cluster(None, file) as two:
        one.stop("vm1", "a")
        assert two.domain("vm1").state == "shut off"
        assert (two.seed, two.epoch) == (one.seed, one.epoch)
    with Cluster(cluster_of(hosts="xyz"), file) as three:
        assert [host.name for host in three.hosts()] == ["a", "b", "c"]


def test_open_refuses_other_files(tmp_path):
    (tmp_path / "text").write_text("This is no database, and long enough not to be empty." * 20)
    with pytest.raises(ClusterError, match="is not a simulated cluster"):
        Cluster(cluster_of(), tmp_path / "text")
    with pytest.raises(ClusterError, match="is not a simulated cluster: unable to open"):
        Cluster(cluster_of(), tmp_path / "nowhere" / "file")
    with pytest.raises(ClusterError, match=r"describe one with .*create"):
        Cluster(None, tmp_path / "new")
    with pytest.raises(ClusterError, match="no cluster 'nobody' in this process"):
        Cluster.named("nobody")


def test_open_refuses_cluster_of_another_version(tmp_path):
    with Cluster(cluster_of(), tmp_path / "file") as cluster:
        cluster._database.execute("UPDATE meta SET value = 99 WHERE key = 'version'")
    with pytest.raises(ClusterError, match="is a cluster of version 99"):
        Cluster(None, tmp_path / "file")


def test_saved_domain_cannot_be_started_or_moved():
    with Cluster(cluster_of(("vm1", "a"), ("vm2", "b"), memory=GIB)) as cluster:
        begun = cluster.begin_swap(cluster.join("a"), "vm1", "a", "vm2", "b")
        assert begun.order == "save-second"
        cluster.save(begun.second)
        assert cluster.host("b").used == 0
        with pytest.raises(HypervisorError, match="vm2 is saved while another domain moves"):
            cluster.start("vm2", "c")
        with pytest.raises(HypervisorError, match="shut off"):
            cluster.move("vm2", "b", "c")
        assert cluster.unsave(begun.second)
        assert cluster.domain("vm2").state == "running"


def test_saved_domain_stays_shut_off_when_its_room_is_taken():
    off = ("new", "c", {"state": "shut off"})
    with Cluster(cluster_of(("vm1", "a"), ("vm2", "b"), off, memory=GIB)) as cluster:
        begun = cluster.begin_swap(cluster.join("a"), "vm1", "a", "vm2", "b")
        cluster.save(begun.second)
        cluster.start("new", "b")
        with pytest.raises(HypervisorError, match="b has 0 KiB of memory free"):
            cluster.advance(begun.first)
        assert not cluster.unsave(begun.second)
        cluster.abandon(begun.second)
        assert cluster.domain("vm2").state == "shut off"
        assert cluster.problems() == []


@pytest.mark.parametrize(
    ("description", "why"),
    [
        (cluster_of(hosts="aa"), "two hosts"),
        (cluster_of(("vm1", "a"), ("vm1", "b")), "two domains"),
        (cluster_of(("vm1", "z")), "vm1 is on z, which is not in the cluster"),
        (cluster_of(memory=2**64 - 1), "which nothing has"),
        (cluster_of(("vm1", "a", {"memory": 2**64 - 1})), "which nothing has"),
        (cluster_of(("vm1", "a"), memory=1), "more memory than it has"),
        (cluster_of(links=[LinkDescription(hosts=["a", "a"], bandwidth=1)]), "two hosts"),
        (cluster_of(links=[LinkDescription(hosts=["a", "z"], bandwidth=1)]), "two hosts"),
    ],
)
def test_contradicting_description_is_refused(description, why):
    with pytest.raises(ClusterError, match=why):
        Cluster(description)


def test_migrations_share_their_link():
    links = [LinkDescription(hosts=["b", "c"], bandwidth=100, duplex=False)]
    description = cluster_of(
        ("vm1", "a"), ("vm2", "a"), ("vm3", "b"), ("vm4", "b"), ("vm5", "c"),
        links=links, bandwidth=1000,
    )  # fmt: skip
    with Cluster(description) as cluster:
        session = cluster.join("a")
        one = cluster.begin(session, "vm1", "a", "b")
        assert cluster.share(one) == 1000 * MIB
        two = cluster.begin(session, "vm2", "a", "b")
        back = cluster.begin(session, "vm3", "b", "a")
        assert cluster.share(one) == cluster.share(two) == 500 * MIB
        assert cluster.share(back) == 1000 * MIB
        there = cluster.begin(session, "vm4", "b", "c")
        assert cluster.share(there) == 100 * MIB
        here = cluster.begin(session, "vm5", "c", "b")
        assert cluster.share(there) == cluster.share(here) == 50 * MIB
        cluster.finish(two)
        assert cluster.share(one) == 1000 * MIB


def test_end_of_session_abandons_its_migrations():
    with Cluster(cluster_of(*((f"vm{i}", "a") for i in range(4)))) as cluster:
        session = cluster.join("a")
        cluster.begin(session, "vm0", "a", "b")
        paused = cluster.begin(session, "vm1", "a", "b")
        cluster.pause(paused)
        switched = cluster.begin(session, "vm2", "a", "b")
        cluster.switch_to_post_copy(switched)
        assert cluster.domain("vm1").state == "paused"
        assert cluster.domain("vm2").host == "b"
        assert (cluster.host("b").used, cluster.host("b").active) == (3 * GIB, 3)
        assert cluster.host("a").used == 3 * GIB
        assert cluster.problems() == []
        cluster.join("a")  # the daemon of the host has begun anew
        places = {domain.name: (domain.host, domain.state) for domain in cluster.domains()}
        assert places == {
            "vm0": ("a", "running"),
            "vm1": ("a", "running"),
            "vm2": ("b", "paused"),
            "vm3": ("a", "running"),
        }
        assert not any(domain.migrating for domain in cluster.domains())
        assert cluster.host("b").used == GIB
        with pytest.raises(HypervisorError, match="given up"):
            cluster.finish(paused)


def test_problems_reports_broken_invariants():
    with Cluster(cluster_of(("vm1", "a"), ("vm2", "a"))) as cluster:
        cluster.begin(cluster.join("a"), "vm1", "a", "b")
        assert cluster.problems() == []
        cluster._database.execute("UPDATE domain SET host = 'c' WHERE name = 'vm1'")
        cluster._database.execute("UPDATE host SET memory = 1 WHERE name = 'a'")
        assert cluster.problems() == [
            f"a has {GIB} of 1 KiB in use",
            "vm1 is on c, in its migration on a",
        ]


class Handling(RuleBasedStateMachine):
    """Calls in any order: the cluster refuses each, or its invariants hold."""

    hosts = st.sampled_from("abc")
    names = st.sampled_from(["vm0", "vm1", "vm2", "vm3"])

    def __init__(self):
        super().__init__()
        self.cluster = Cluster(
            ClusterDescription(
                hosts=cluster_of(memory=3 * GIB).hosts,
                domains=[
                    DomainDescription(name=f"vm{i}", host="ab"[i % 2], memory=(1 + i % 2) * GIB)
                    for i in range(3)
                ],
            )
        )
        self.session = self.cluster.join("a")
        self.under_way = []

    def teardown(self):
        self.cluster.close()

    def attempt(self, call, *arguments, **more):
        before = (self.cluster.domains(), self.cluster.hosts())
        try:
            return call(*arguments, **more)
        except HypervisorError:
            assert (self.cluster.domains(), self.cluster.hosts()) == before
            return None

    @rule(
        name=names,
        host=hosts,
        memory=st.integers(1, 4),
        define=st.sampled_from([None, True, False]),
        saved_state=st.sampled_from([None, "restore", "discard"]),
    )
    def start(self, name, host, memory, define, saved_state):
        memory *= GIB
        before = self.cluster.find(name)
        order = StartOrder(
            name=name, host=host, memory=memory, saved_state=saved_state, xml=define is not None
        )
        details = self.attempt(
            self.cluster.start, name, host, memory=memory, define=define, order=order
        )
        if details == "continued from its saved image":
            assert (before.saved, before.host, before.memory) == (True, host, memory)
        if details == "its saved image is deleted":
            assert (before.saved, saved_state) == (True, "discard")

    @rule(host=hosts)
    def managed_save(self, host):
        self.cluster.managed_save(host)

    @rule(name=names, source=hosts, destination=hosts)
    def move(self, name, source, destination):
        self.attempt(self.cluster.move, name, source, destination)

    @rule(name=names, host=hosts, undefine=st.booleans())
    def stop(self, name, host, undefine):
        self.attempt(self.cluster.stop, name, host, undefine=undefine)

    @rule(name=names, host=hosts, state=st.sampled_from(["running", "paused"]))
    def set_state(self, name, host, state):
        self.attempt(self.cluster.set_state, name, host, state)

    @rule(name=names, source=hosts, destination=hosts)
    def begin(self, name, source, destination):
        begun = self.attempt(self.cluster.begin, self.session, name, source, destination)
        if begun is not None:
            self.under_way.append(begun)

    @rule(source=hosts, overbooking=st.booleans(), mode=st.sampled_from(["auto", "scatter"]))
    def evacuate(self, source, overbooking, mode):
        names = [d.name for d in self.cluster.domains(source) if d.active and not d.migrating]
        others = [name for name in "abc" if name != source]
        for placed in self.cluster.plan_evacuation(source, names, others, mode, overbooking):
            if placed.host is not None:
                self.begin(placed.guest, source, placed.host)

    @rule(first=names, second=names, source=hosts, other=hosts)
    def swap(self, first, second, source, other):
        if first == second:
            return
        begun = self.attempt(self.cluster.begin_swap, self.session, first, source, second, other)
        if begun is None:
            return
        if begun.order.startswith("save"):
            saved, moved = begun.first, begun.second
            if begun.order == "save-second":
                saved, moved = moved, saved
            self.cluster.save(saved)
            assert self.cluster.problems() == []
            self.cluster.advance(moved)
            self.cluster.finish(moved, next_migration=saved)
            self.cluster.finish(saved)
        else:
            pair = [begun.first, begun.second]
            if begun.order == "second":
                pair.reverse()
            self.cluster.finish(pair[0], next_migration=pair[1])
            self.cluster.finish(pair[1])
        places = {domain.name: domain.host for domain in self.cluster.domains()}
        assert (places[first], places[second]) == (other, source)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), end=st.sampled_from(["finish", "abandon", "pause", "post-copy"]))
    def go_on(self, data, end):
        migration = data.draw(st.sampled_from(self.under_way))
        if end == "pause":
            self.cluster.pause(migration)
            return
        if end == "post-copy":
            self.cluster.switch_to_post_copy(migration)
            return
        self.under_way.remove(migration)
        getattr(self.cluster, end)(migration)

    @rule()
    def restart(self):
        self.session = self.cluster.join("a")
        self.under_way.clear()
        assert not any(domain.migrating for domain in self.cluster.domains())

    @invariant()
    def is_sound(self):
        assert self.cluster.problems() == []


TestHandling = Handling.TestCase
TestHandling.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


SAVED = ClusterDescription(
    hosts=[HostDescription(name="hostA"), HostDescription(name="hostB")],
    domains=[
        DomainDescription(name="vm1", host="hostA", state="shut off", managed_save=True),
        DomainDescription(name="vm2", host="hostA"),
        DomainDescription(name="vm3", host="hostB", state="paused"),
    ],
)


def test_saved_image_is_restored_or_discarded_by_a_start():
    with Cluster(SAVED) as cluster:
        assert cluster.start("vm1", "hostA") == "continued from its saved image"
        assert not cluster.domain("vm1").saved
        cluster.managed_save("hostA")
        assert [each.saved for each in cluster.domains()] == [True, True, False]
        order = StartOrder(name="vm1", host="hostA", memory=1 << 21)
        with pytest.raises(HypervisorError, match="has a saved image on hostA, which cannot be"):
            cluster.start("vm1", "hostA", memory=1 << 21, order=order)
        discarding = msgspec.structs.replace(order, saved_state="discard")
        details = cluster.start("vm1", "hostA", memory=1 << 21, order=discarding)
        assert details == "its saved image is deleted"
        assert cluster.domain("vm1").memory == 1 << 21
        assert cluster.problems() == []


def test_saved_image_keeps_its_domain_on_its_host():
    with Cluster(SAVED) as cluster:
        with pytest.raises(HypervisorError, match="vm1 has a saved image on hostA, which may have"):
            cluster.start("vm1", "hostB")
        with pytest.raises(HypervisorError, match="vm1 has a saved image on hostA with its newest"):
            cluster.move("vm1", "hostA", "hostB")
        assert cluster.domain("vm1").host == "hostA"


def test_only_active_domains_of_that_name_and_host_are_saved():
    with Cluster(SAVED) as cluster:
        cluster.managed_save("hostA", "vm3")
        assert not cluster.domain("vm3").saved
        cluster.managed_save(None, "vm3")
        assert cluster.domain("vm3").saved
        session = cluster.join("hostA")
        cluster.begin(session, "vm2", "hostA", "hostB")
        cluster.managed_save("hostA")
        assert cluster.domain("vm2").state == "running"


def test_running_domain_cannot_be_described_with_a_saved_image():
    domain = DomainDescription(name="vm1", host="hostA", managed_save=True)
    description = ClusterDescription(hosts=[HostDescription(name="hostA")], domains=[domain])
    with pytest.raises(ClusterError, match="vm1 has a saved image, so its state must be: shut off"):
        Cluster(description)
