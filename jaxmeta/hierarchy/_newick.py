"""Newick's text of a tree, read and written.

Olsen's grammar: `tree := part ';'`,
`part := '(' part ',' ... ')' [name] [':' length] | name [':' length]`; comments in square brackets;
a name in single quotes may hold anything, a quote being doubled.
"""

from __future__ import annotations

import re

TOKEN = re.compile(r"\s*(?:\[[^\]]*\]\s*)*('(?:[^']|'')*'|[(),:;]|[^\s(),:;'\[\]]+)")


def read(text: str):
    """The arguments of a `Tree`: see `Tree.from_newick`."""
    parents, names, lengths = [], [], []
    node, place, previous = -1, 0, ""

    def refuse(what):
        raise ValueError(
            f"Newick text must read '(a,(b,c));', got {what} at character {place} of {text!r}; "
            "mend the text there"
        )

    def grow(parent):
        parents.append(parent)
        names.append("")
        lengths.append(None)
        return len(parents) - 1

    while previous != ";":
        found = TOKEN.match(text, place)
        if not found:
            refuse("its end" if not text[place:].strip() else repr(text[place:].strip()[0]))
        token = found.group(1)
        if token in ("(", ","):
            if token == "(" and previous not in ("", "(", ","):
                refuse("'('")
            if token == "," and node == -1:
                refuse("','")
            if token == "(":
                # The first bracket opens the root itself; every other one opens a node that stands
                # already.
                node = grow(-1) if node == -1 else node
            parent = node if token == "(" else parents[node]
            if parent == -1 and token == ",":
                refuse("','")
            node = grow(parent)
        elif token == ")":
            node = parents[node] if node >= 0 else -1
            if node == -1:
                refuse("')'")
        elif token == ";":
            if node == -1 or parents[node] != -1:
                refuse("';'")
        elif token == ":":
            if node == -1:
                refuse("':'")
        elif previous == ":":
            try:
                lengths[node] = float(token)
            except ValueError:
                refuse(repr(token))
        else:
            if previous not in ("", "(", ",", ")"):
                refuse(repr(token))
            node = grow(-1) if node == -1 else node
            names[node] = token[1:-1].replace("''", "'") if token.startswith("'") else token
        previous, place = token, found.end()
    if text[place:].strip():
        refuse(repr(text[place:].strip()[0]))

    leaves = sorted(set(range(len(parents))) - set(parents))
    unnamed = [node for node in leaves if not names[node]]
    if unnamed:
        place = len(text)
        refuse("a leaf without a name")
    return tuple(parents), tuple(names[leaf] for leaf in leaves), _heights(parents, lengths)


def _heights(parents, lengths) -> tuple[float, ...] | None:
    """Heights from lengths, where every edge has one and leaves end level; else None."""
    if any(length is None for length, parent in zip(lengths, parents) if parent >= 0):
        return None
    heights = [0.0] * len(parents)
    for node in reversed(range(1, len(parents))):  # children follow their parents
        high = heights[node] + lengths[node]
        known = heights[parents[node]]
        if known and abs(high - known) > 1e-6 * max(known, high):
            return None
        heights[parents[node]] = high
    return tuple(heights)


def write(tree) -> str:
    """See `Tree.newick`."""
    form, stack = [], [(tree.root, "")]
    while stack:
        item, after = stack.pop()
        if isinstance(item, str):
            form.append(item)
            continue
        parent = tree.parents[item]
        length = "" if parent < 0 else f":{tree.heights[parent] - tree.heights[item]:.12g}"
        children = tree.children[item]
        if not children:
            name = str(tree.concepts[item]).replace("'", "''")
            form.append(f"'{name}'{length}")
            continue
        form.append("(")
        stack.append((")" + length, ""))
        for place, child in enumerate(reversed(children)):
            stack.append((child, ""))
            if place < len(children) - 1:
                stack.append((",", ""))
    return "".join(form) + ";"
