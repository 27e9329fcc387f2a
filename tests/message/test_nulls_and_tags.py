"""Null is never taken for a text, and a text never for null."""

import pytest
import yaml

import fastlib
from fastlib import ResultContainer, Stop, TaskContainer, ValidationError
from fastlib.codec import composer
from fastlib.message.agent import InitAgent, KpiReport, Kpis

NULLS = ["~", "null", "Null", "NULL", "", "!!null ~", "!!null", "!!null 'null'"]


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("layout", ["result: {}\nlist: []", "list: []\nresult: {}", "result: {}"])
def test_null_is_refused_as_title_of_results(layout, null):
    text = layout.format(null)
    for read in (ResultContainer.from_yaml, fastlib.load):
        with pytest.raises(ValidationError, match="result: expected text; got null"):
            read(text)
    [problem] = fastlib.validate(text).errors
    assert problem.path == "result"


@pytest.mark.parametrize("null", NULLS)
def test_null_is_refused_as_title_of_tasks(null):
    with pytest.raises(ValidationError, match="got null"):
        TaskContainer.from_yaml(f"task: {null}\nlist: []")
    with pytest.raises(ValidationError, match="task: expected 'init agent'"):
        InitAgent.from_yaml(f"task: {null}\nKPI: {{categories: {{}}, repeat: 1}}")


def test_text_that_looks_like_null_is_a_title():
    for title in ("~", "null", ""):
        container = ResultContainer(result=title, results=[])
        text = container.to_yaml()
        assert f'result: "{title}"' in text
        assert ResultContainer.from_yaml(text) == container
    assert ResultContainer.from_yaml("result: !!str ~\nlist: []").result == "~"


@pytest.mark.parametrize("null", NULLS)
def test_null_of_categories_is_an_empty_mapping_with_a_warning(null):
    text = f"task: init agent\nKPI:\n  categories: {null}\n  repeat: 5\n"
    report = fastlib.validate(text)
    [problem] = report.problems
    assert (problem.severity, problem.code) == ("warning", "null")
    assert (problem.path, problem.line) == ("KPI.categories", 3)
    message = InitAgent(kpi=Kpis(categories={}, repeat=5))
    assert report.message == message
    assert fastlib.load(text) == message
    assert "categories: {}" in message.to_yaml()
    assert fastlib.validate(message.to_yaml()).problems == ()
    assert Kpis.load({"categories": None, "repeat": 5}) == message.kpi


@pytest.mark.parametrize("null", NULLS)
def test_null_of_measured_values_is_an_empty_mapping_with_a_warning(null):
    text = f"task: KPI\nsource: a\nKPIS: {null}\n"
    report = fastlib.validate(text)
    [problem] = report.problems
    assert (problem.severity, problem.path, problem.line) == ("warning", "KPIS", 3)
    message = KpiReport(source="a", kpis={})
    assert report.message == message
    assert fastlib.load(text) == message
    assert KpiReport.from_yaml(message.to_yaml()) == message


def test_categories_must_not_be_missing():
    with pytest.raises(ValidationError, match="categories: missing"):
        Kpis.from_yaml("repeat: 5")


@pytest.mark.parametrize("tag", ["!!str", "!", "!!int", "!local", "!<tag:example.org,2026:x>"])
def test_tag_turns_null_into_text(tag):
    for text, name in ((f"vm-name: {tag}", ""), (f"vm-name: {tag} ~", "~")):
        for layout in (text, f"{{{text} , force: true}}", f"force: true\n{text}\n"):
            assert Stop.from_yaml(layout).vm_name == name
            assert fastlib.validate(layout, Stop).problems == ()


def test_tag_null_stays_null():
    report = fastlib.validate("vm-name: a\nregex: !!null ~", Stop)
    assert report.message == Stop(vm_name="a")
    assert [problem.code for problem in report.problems] == ["null"]


@pytest.mark.parametrize("word", ["~", "null", "Null", "NULL"])
@pytest.mark.parametrize("quote", ["", "'", '"'])
@pytest.mark.parametrize("has_c_parser", sorted({composer.HAS_C_PARSER, False}))
def test_tag_null_makes_null_of_its_words_in_quotes(word, quote, has_c_parser, monkeypatch):
    monkeypatch.setattr(composer, "HAS_C_PARSER", has_c_parser)
    null = f"!!null {quote}{word}{quote}"
    for text in (f"vm-name: a\ndriver: {null}\nforce: {null}", f"{{vm-name: a, driver: {null}}}"):
        assert Stop.from_yaml(text) == Stop(vm_name="a")
        assert {each.code for each in fastlib.validate(text, Stop).problems} == {"null"}
    report = KpiReport(source="a", kpis={"a": None, "b": "null"})
    tree = report.emit()
    assert KpiReport.from_yaml(yaml.safe_dump(tree, default_style="'")) == report


@pytest.mark.parametrize("text", ["!!null x", '!!null "x"', '!!null ""', "!!null ' ~'"])
def test_tag_null_does_not_change_other_texts(text):
    name = Stop.from_yaml(f"vm-name: {text}").vm_name
    assert name == text.removeprefix("!!null ").strip("\"'")


@pytest.mark.parametrize("repeat", [1, 2, 100])
def test_key_null_is_reported_once(repeat):
    """Categories may be a list of mappings, and an alias repeats a mapping with its wrong key."""
    aliases = ", *x" * repeat
    text = f"repeat: 1\ncategories: [&x {{~: a}}{aliases}, {{~: b}}]"
    found = [(each.path, each.line, each.column) for each in fastlib.validate(text, Kpis).errors]
    assert found == [("categories", 2, 18), ("categories", 2, 26 + len(aliases))]


def test_free_tree_knows_null_and_text_by_their_tags():
    text = "task: KPI\nsource: a\nKPIS: {a: ~, b: !!str ~, c: !!str , d: '~', e: [!, ~]}"
    assert KpiReport.from_yaml(text).kpis == {
        "a": None, "b": "~", "c": "", "d": "~", "e": ["", None],
    }  # fmt: skip
