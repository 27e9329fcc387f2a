"""Parse and write the XML of libvirt."""

import xml.etree.ElementTree as ElementTree
from xml.etree.ElementTree import Element, SubElement


def parse(xml: str) -> Element:
    """Return the root of XML that libvirt wrote, or that `read_domain` has accepted."""
    # Neither has a document type declaration. So the parser has no entities to expand or to fetch.
    return ElementTree.fromstring(xml)  # noqa: S314


def text(element: Element) -> str:
    """Return the XML of an element."""
    return ElementTree.tostring(element, encoding="unicode")


def only_child(parent: Element, tag: str) -> Element:
    found = parent.find(tag)
    return SubElement(parent, tag) if found is None else found


def drop_children(parent: Element, tag: str) -> None:
    for element in parent.findall(tag):
        parent.remove(element)
