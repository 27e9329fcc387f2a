"""Every type of message with its fields and rules, from the declarations."""

from collections.abc import Iterator

from fastlib.message.describe import FieldDescription, MessageDescription, groups

from .markdown import code, escaped, table


def text() -> str:
    """Return the sections of all groups of messages."""
    return "\n\n".join(_lines())


def _lines() -> Iterator[str]:
    for group in groups():
        yield f"## {group.name[0].upper()}{group.name[1:]}"
        yield f"{escaped(group.doc)}."
        for message in group.messages:
            yield from _message(message)


def _message(message: MessageDescription) -> Iterator[str]:
    yield f"### {message.name}"
    if message.doc:
        yield escaped(message.doc)
    facts = list(_facts(message))
    if facts:
        yield "\n".join(f"- {fact}" for fact in facts)
    if message.fields:
        yield table(("key", "value", "", "meaning"), map(_field, message.fields))
    if message.rules:
        yield "Rules:"
        yield "\n".join(f"- {escaped(' '.join(rule.split()))}" for rule in message.rules)


def _facts(message: MessageDescription) -> Iterator[str]:
    if message.titles:
        titles = " or ".join(code(f"task: {title}") for title in message.titles)
        yield f"title: {titles}" + ("" if message.title_is_written else ", read but never written")
    if message.container is not None:
        yield f"in a container: {escaped(message.container.words)}"
    if message.result is not None:
        own = "" if message.result.type == "Result" else f"{_link(message.result.type)}, "
        yield f"result: {code(f'result: {message.result.title}')}, {own}{message.result.words}"
    for place in message.members:
        yield f"members of {code(place.title)}: {_link(place.type)}, {place.words}"


def _field(field: FieldDescription) -> tuple[str, str, str, str]:
    value = escaped(field.type)
    if field.message is not None:
        value = value.replace(field.message, _link(field.message))
    if field.unit:
        value = f"{value}, in {field.unit}"
    notes = [escaped(field.doc), *map(escaped, field.notes)]
    if field.aliases:
        notes.append(f"Also read as {' and '.join(map(code, field.aliases))}.")
    notes += [f"Not read: {escaped(remedy)}." for remedy in field.old.values()]
    need = "required" if field.required else "optional"
    return code(field.key), value, need, " ".join(filter(None, notes))


def _link(name: str) -> str:
    return f"[{name}](#{name.lower().replace('.', '')})"
