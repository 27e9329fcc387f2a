"""The dashboard in a real browser, with real daemons on a simulated cluster.

`pytest tests/dashboard/test_browser.py --write-pictures` makes the screenshots of the docs again.
"""

from pathlib import Path

import pytest

from fastlib.demo.layout import SLOW_BANDWIDTH
from fastlib.demo.scheduler import live_migration
from fastlib.demo.settings import Settings
from tests.support.dashboard.browser import Browser
from tests.support.dashboard.cluster import DashboardCluster

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
TOKEN = "correct horse battery staple"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(autouse=True)
def forget_other_tests(browser):
    """Leave the page of another test, which may ask a server that has ended, and its errors."""
    browser.get("about:blank")
    browser.errors()


@pytest.fixture(scope="module")
def small():
    """A cluster of four hosts with a dashboard."""
    with DashboardCluster(Settings(hosts=4, vms=24, speed=1.0)) as cluster:
        cluster.start_vms()
        yield cluster


def host(name):
    return f"document.querySelector('.host[data-name=\"{name}\"]')"


async def endless_migration(cluster, vm, source, destination):
    """Start a migration that continues until it is cancelled."""
    task = live_migration(vm, destination, auto_converge=False, bandwidth_limit=SLOW_BANDWIDTH)
    return await cluster.client.submit(source, task)


def test_migration_moves_and_vm_arrives(browser, small):
    source, destination = small.cluster.hosts[:2]
    browser.get(small.url)
    browser.until(f"{host(source)} && {host(source)}.innerText.includes('6 VMs')")
    endless = small.run(endless_migration(small, "vm-01", source, destination))
    row = "document.querySelector('#work tr')"
    first = browser.until(f"{row} && {row}.querySelector('progress').value")
    browser.until(f"{row} && {row}.querySelector('progress').value > arguments[0]", first)
    small.run(endless.cancel())
    browser.until("document.querySelector('#results .error')")
    small.run(small.client.submit(source, live_migration("vm-01", destination)))
    browser.until("document.querySelector('#results .success .vm').innerText === 'vm-01'")
    browser.until(f"{host(destination)}.innerText.includes('7 VMs')")
    assert browser.text("#work-empty") == "No task is running or queued."
    assert browser.errors() == []


def test_dead_daemon_turns_grey_until_its_restart(browser, small):
    name = small.cluster.hosts[-1]
    browser.get(small.url)
    browser.until(
        f"{host(name)}?.dataset.status === 'online' && {host(name)}.innerText.includes('VMs')"
    )
    colour = f"getComputedStyle({host(name)}).filter"
    assert browser.value(colour) == "none"
    small.run(small.cluster.kill_daemon(name))
    browser.until(f"{host(name)}.dataset.status === 'offline'")
    assert browser.value(colour) == "grayscale(1)"
    assert "offline since" in browser.value(f"{host(name)}.innerText")
    assert "the last one that its daemon reported" in browser.value(f"{host(name)}.innerText")
    assert browser.text("#n-offline") == "1"
    small.run(small.cluster.start_daemon(name))
    browser.until(f"{host(name)}.dataset.status === 'online'")
    assert browser.value(colour) == "none"


def test_history_of_a_vm_by_keyboard(browser, small):
    name = small.cluster.hosts[1]
    browser.get(small.url)
    browser.until(f"{host(name)}?.innerText.includes('VMs')")
    browser.value(f"{host(name)}.querySelector('.toggle').focus()")
    press(browser, "Enter")
    browser.until(f"{host(name)}.querySelector('.toggle').ariaExpanded === 'true'")
    press(browser, "Tab")
    vm = browser.value("document.activeElement.dataset.vm")
    press(browser, "Enter")
    browser.until("document.querySelector('#history[open] .orders li')")
    assert browser.text("#history-title") == f"History of {vm}"
    assert "start vm" in browser.text(".orders")
    press(browser, "Escape")
    browser.until("!document.querySelector('#history[open]') && !location.hash")
    assert browser.value("document.activeElement.dataset.vm") == vm, "the focus is back"


def test_hardware_of_a_host_is_shown_with_its_vms(browser, small):
    row = host(small.cluster.hosts[0])
    browser.get(small.url)
    browser.until(f"{row}?.innerText.includes('VMs')")
    assert "storage pool" not in browser.value(f"{row}.innerText")
    browser.value(f"{row}.querySelector('.toggle').click()")
    browser.until(f"{row}.innerText.includes('storage pool default: 80.0 GiB of 100 GiB free')")
    shown = browser.value(f"{row}.querySelector('.hardware').innerText").splitlines()
    assert shown[0] == "CPU model: Skylake-Server"
    assert [line.split(",")[0] for line in shown[1:3]] == [
        "NUMA node 0: 14 CPUs", "NUMA node 1: 14 CPUs",
    ]  # fmt: skip
    browser.value(f"{row}.querySelector('.toggle').click()")
    browser.until(f"!{row}.innerText.includes('storage pool')")


KEYS = {"Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, "")}


def press(browser, key):
    code, number, text = KEYS[key]
    for kind in ("keyDown", "keyUp"):
        said = {"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number}
        if text and kind == "keyDown":
            said["text"] = text
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", said)


HOSTILE = "<script>window.hit=1</script><img src=x onerror=window.hit=1>"


def test_text_from_the_network_is_not_markup(browser, small):
    with small.impersonating("<b>evil</b>", HOSTILE):
        browser.get(small.url)
        browser.until("document.body.innerText.includes('<b>evil<')")
        browser.until("document.querySelector('#work').innerText.includes('<script>')")
        browser.until("document.querySelector('#results').innerText.includes('<script>')")
        browser.click("#toggle-all")
        browser.until("document.querySelector('#hosts .vms')?.innerText.includes('<script>')")
        buttons = "[...document.querySelectorAll('.vms .vm')]"
        browser.value(f"{buttons}.find((b) => b.innerText.includes('<script>')).click()")
        browser.until("document.querySelector('#history-title').innerText.includes('<script>')")
        browser.until("!document.querySelector('#history-body').innerText.includes('Asking')")
        assert browser.value("window.hit") is None
        assert (
            browser.value("document.querySelectorAll('main script, main img, main b').length") == 0
        )
        assert browser.errors() == []
        # The proof that the policy alone would stop it, too.
        browser.value("document.body.insertAdjacentHTML('beforeend', arguments[0])", HOSTILE)
        browser.until_value(
            lambda: any("Content Security" in e for e in browser.errors()), "refused"
        )
        assert browser.value("window.hit") is None


def test_narrow_window_scrolls_tables_and_not_the_page(browser, small):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(small.url)
        browser.until("document.querySelector('#results td')")
        assert browser.value("document.documentElement.scrollWidth") == 390
        times = "document.querySelector('#results time').getClientRects().length"
        assert browser.value(times) == 1, "a time is not broken into lines"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_page_says_when_it_is_not_live(browser, small):
    with DashboardCluster(Settings(hosts=3, vms=6)) as cluster:
        browser.get(cluster.url)
        browser.until("document.querySelector('#connection').innerText === 'live'")
    browser.until("!document.querySelector('#banner').hidden")
    assert "No connection to the dashboard" in browser.text("#banner")
    assert browser.text("#connection") == "not live"


def test_token_opens_the_page(browser):
    with DashboardCluster(Settings(hosts=3, vms=6), token=TOKEN) as cluster:
        browser.get(cluster.url)
        browser.until("document.querySelector('#token')")
        for given, expected in (("wrong", "That is not the token."), (TOKEN, "Hosts online")):
            browser.find_element("css selector", "#token").send_keys(given + "\n")
            browser.until("document.body.innerText.includes(arguments[0])", expected)
        browser.until("document.querySelector('#connection').innerText === 'live'")
        assert TOKEN not in browser.current_url
        assert browser.value("document.cookie") == "", "scripts cannot read the cookie"


def test_100_hosts_with_2000_vms_stay_usable(browser, figures):
    with DashboardCluster(Settings(hosts=100, vms=2000, speed=1.0)) as cluster:
        cluster.start_vms()
        browser.get(cluster.url)
        browser.until_value(lambda: browser.text("#n-vms") == "2,000", "2,000 VMs")
        measure(browser, figures, "loading 100 hosts with 2,000 VMs")
        for number in range(8):
            source, destination = cluster.cluster.hosts[number], cluster.cluster.hosts[-1 - number]
            vm = f"vm-{number * 20 + 1:04}"
            if number == 0:
                cluster.run(cluster.client.submit(source, live_migration(vm, destination)))
            else:
                cluster.run(endless_migration(cluster, vm, source, destination))
        browser.until("document.querySelectorAll('#work tr progress').length >= 4")
        browser.until(
            "[...document.querySelectorAll('#results .vm')].some((b) => b.innerText === 'vm-0001')"
        )
        measure(browser, figures, "8 migrations")
        browser.click("#toggle-all")
        browser.until("document.querySelectorAll('#hosts .vms li').length === 2000")
        measure(browser, figures, "showing all VMs")
        browser.find_element("css selector", "#filter").send_keys("vm-1234")
        browser.until(
            "[...document.querySelectorAll('.host')].filter((h) => !h.hidden).length === 1"
        )
        browser.until("document.querySelectorAll('.vms .found').length === 1")
        measure(browser, figures, "finding one of them by seven keys")
        browser.value("document.querySelector('.vms .found button').click()")
        browser.until("document.querySelector('#history[open] .orders li')")
        assert "start vm" in browser.text(".orders")
        assert browser.errors() == []


def measure(browser, figures, about):
    tasks = browser.value("window.longTasks.splice(0)")
    elements = browser.value("document.querySelectorAll('*').length")
    longest = max(tasks, default=0)
    figures(f"{about}: {len(tasks)} long tasks, longest {longest:.0f} ms, {elements} elements")
    assert elements < 20_000, "the page grows with what is shown, and no faster"


def test_screenshots(browser, request):
    """Make the screenshots of the docs, with `--write-pictures`; else only see that they exist."""
    with DashboardCluster(Settings(hosts=6, vms=36, speed=0.5)) as cluster:
        cluster.start_vms()
        hosts = cluster.cluster.hosts
        browser.get(cluster.url)
        browser.until_value(lambda: browser.text("#n-vms") == "36", "36 VMs")
        wrong = cluster.client.submit(hosts[1], live_migration("vm-99", hosts[2]))
        cluster.run(cluster.client.submit(hosts[0], live_migration("vm-02", hosts[1])))
        cluster.run(wrong)
        browser.until("document.querySelector('#results .error')")
        for source, destination in ((0, 1), (1, 2), (2, 3), (3, 4), (3, 2)):
            vm = f"vm-{source * 6 + destination:02}"
            cluster.run(endless_migration(cluster, vm, hosts[source], hosts[destination]))
        cluster.run(cluster.cluster.kill_daemon(hosts[5]))
        browser.until(f"{host(hosts[5])}.dataset.status === 'offline'")
        bars = "[...document.querySelectorAll('#work progress')]"
        browser.until(f"{bars}.filter((bar) => bar.value > 8).length >= 3")
        browser.value(f"{host(hosts[0])}.querySelector('.toggle').click()")
        browser.value("document.querySelector('#only-errors').blur()")
        browser.until("document.querySelector('#hosts .vms li')")
        save_picture(browser, request, "dashboard-light")
        browser.set_dark(True)
        save_picture(browser, request, "dashboard-dark")
        browser.set_dark(False)
        browser.value("location.hash = '#vm=vm-02'")
        browser.until("document.querySelectorAll('#history[open] .orders li').length >= 2")
        save_picture(browser, request, "dashboard-history")


def save_picture(browser, request, name):
    picture = browser.get_screenshot_as_png()
    file = PICTURES / f"{name}.png"
    if request.config.getoption("--write-pictures"):
        PICTURES.mkdir(exist_ok=True)
        file.write_bytes(picture)
    assert picture.startswith(b"\x89PNG")
    assert file.is_file()
