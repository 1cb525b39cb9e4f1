"""Turns good text into hostile text, the same for the same random numbers."""

from __future__ import annotations

import json
import random
import re
from typing import Any

#: TOML values that have broken readers before
VALUES = (
    *(
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-1",
        "0",
        "1e-320",
        "-0.0",
        "9223372036854775807",
        "9223372036854775808",
    ),
    *(
        "1" + "0" * 5000,
        "0x" + "f" * 200,
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "true",
        "[]",
        "{}",
        '""',
        "[[]]",
    ),
    *('"' + "A" * 100_000 + '"', "[" * 60 + "]" * 60, "{a=" * 60 + "1" + "}" * 60, "[" * 5000, '"""', "'''"),
    *(
        '"\\u0000"',
        '"\\u001b[31mred"',
        '"\\u009b1m"',
        '"\\u202egnp"',
        '"\\u2028"',
        '"\\r\\n"',
        '"\\U0010ffff"',
    ),
    *(
        '"[red]x[/red]"',
        '"[/]"',
        '"<script>alert(1)</script>"',
        '"| * ` [x](http://y) $h$"',
        '"=cmd()"',
        '"@x"',
    ),
    *('"../../etc/passwd"', '"/dev/zero"', '"~nobody-here/x"', '"' + "a/" * 3000 + '"', '"C:\\\\x"', '"."'),
    *(
        '"lora"',
        '"qpa"',
        '"native"',
        '["ry", "ry"]',
        '"released-code"',
        '"text"',
        '{ name = "lora", rank = [] }',
    ),
    *(
        '{ name = "text", train = "/dev/zero", test = "\\u0000" }',
        '{ name = "huggingface", path = "~nobody/x" }',
    ),
    *('{ name = "huggingface", path = "\\u0000" }', '{ name = "gpt2", path = "' + "a" * 5000 + '" }'),
    *(
        '{ name = "wikitext-2", path = "' + "b/" * 3000 + '" }',
        '{ name = ["lora", "dora"], rank = [1, 2, 3] }',
    ),
    "[" + ", ".join(map(str, range(1000))) + "]",
    "[" + ", ".join(f"{n}.5" for n in range(3000)) + "]",
    '["' + '", "'.join(["generator=qpa"] * 2000) + '"]',
)
#: whole lines
LINES = (
    *(
        'include = ["suite.toml"]',
        'include = ["b.toml"]',
        'include = ["../x.toml"]',
        'include = ["/etc/passwd"]',
    ),
    *(
        'include = ["."]',
        'include = ["\\u0000"]',
        'include = ["' + "x" * 5000 + '"]',
        "include = [1]",
        "include = {}",
    ),
    *(
        "seeds = [" + ", ".join(map(str, range(1000))) + "]",
        ".".join("a" * 3000) + " = 1",
        "=",
        "[[[x]]]",
        "[a.b.c]",
    ),
    *(
        "[[matrix]]",
        "[suite]",
        "[verdict]",
        "[[verdict.families]]",
        "[[figures]]",
        "[limits]",
        "[profiles.p]",
    ),
    *('name = "../x"', 'name = "a\\u0000"', 'title = "\\u001b[2J"', 'x = "n_trainable"', 'y = ["label"]'),
    *(
        "margin_nats = 1e-300",
        'cell = "n_qubits>=0"',
        'against = "a.b=1"',
        'cell = "(((("',
        "timeout_seconds = nan",
    ),
    *('"' + "k" * 70_000 + '" = 1', '"\\u001b[31m" = 1', '"[red]" = 1', "train.learning_rate = [1, 2]"),
    *("\ufeff", "\x00", "\x1b[31m", "\u202e", "#" * 10_000, "\udc80"),
    "\n".join(f'[[matrix]]\ntarget = {{ name = "lora", rank = [{n}, 2, 4] }}' for n in range(1, 400)),
    "\n".join(f"[profiles.p{n}]" for n in range(2000)),
)
#: what follows ``--set`` and ``--only``
ARGUMENTS = (
    *(
        "=",
        "a",
        "a=",
        "=1",
        "train.epochs",
        "train..epochs=1",
        ".=1",
        "train.epochs=1=2",
        "-1",
        "--",
        "\n",
        "\x1b[31m=1",
    ),
    *(
        f"train.epochs={value}"
        for value in ("nan", "inf", "1e400", "[]", "{}", "[1,2]", "1" * 5000, "'", '"', "1\nx=2")
    ),
    *(
        f"{key}=x"
        for key in ("model", "seeds", "select", "protocol", "target.rank", "evaluate", "matrix", "suite.name")
    ),
    *(
        "target.name=dora",
        "target.rank=[1,2,3]",
        "seeds=" + str(list(range(3000))),
        "model.path=~nobody/x",
        "a" * 50_000,
    ),
    *(
        ".".join("a" * 5000) + "=1",
        "target" + ".a" * 50 + "=1",
        "generator=qpa",
        "n_qubits>=8",
        "n_qubits>=",
        "n_qubits>=nan",
    ),
    *(
        "label=" + "*" * 60 + "x",
        "label=*" + "a*" * 30 + "b",
        "label=[!",
        "label='",
        "and",
        "and and",
        ",",
        "seed=0,",
        "seed=0 and",
    ),
    *(
        "target.rank<1e999",
        "target.rank=\udc80",
        "no_such=1",
        "a.b=1",
        "seed=0 and " * 3000 + "seed=0",
        "(" * 5000,
        "\u202e=1",
    ),
)
_VALUE = re.compile(r"(?<== ).+")
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")


def hostile(text: str, chance: random.Random, others: tuple[str, ...] = ()) -> bytes:
    """Return a text with one to four things done to it.

    Args:
        text: a good file.
        chance: decides what.
        others: texts to take pieces of.
    """
    lines = text.split("\n")
    data: bytes | None = None
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        place = chance.randrange(len(lines))
        match chance.randrange(12):
            case 0:
                lines.pop(place)
                lines = lines or [""]
            case 1:
                lines.insert(chance.randrange(len(lines) + 1), lines[place])
            case 2:
                lines[place : place + 2] = reversed(lines[place : place + 2])
            case 3 | 4 | 5:
                lines[place] = _VALUE.sub(lambda _: chance.choice(VALUES), lines[place], count=1)
            case 6 | 7:
                lines.insert(place, chance.choice(LINES))
            case 8:
                words = list(_WORD.finditer(lines[place]))
                if words:
                    found, new = chance.choice(words), chance.choice((*VALUES, *_WORD.findall(text)))
                    lines[place] = lines[place][: found.start()] + new + lines[place][found.end() :]
            case 9:
                cut = chance.randrange(len(lines[place]) + 1)
                odd = chance.choice("\x00\x07\x1b\x7f\x9b\u202e\u2028\r\"'[]{}=.,#\\\ud800")
                lines[place] = lines[place][:cut] + odd + lines[place][cut:]
            case 10 if others:
                taken = chance.choice(others).split("\n")
                start = chance.randrange(len(taken))
                lines[place:place] = taken[start : start + chance.randrange(1, 12)]
            case _:
                data = _flipped("\n".join(lines).encode(errors="surrogatepass"), chance)
    return data if data is not None else "\n".join(lines).encode(errors="surrogatepass")


def hostile_json(content: Any, chance: random.Random) -> Any:
    """Return a JSON value in which one to three places hold something else."""
    changed = json.loads(json.dumps(content))
    for _ in range(chance.choice((1, 1, 2, 3))):
        changed = _replaced(changed, chance)
    return changed


def _replaced(value: Any, chance: random.Random) -> Any:
    if isinstance(value, (dict, list)) and value and chance.random() < 0.85:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if chance.random() < 0.1:
            if isinstance(value, dict) and chance.random() < 0.5:
                value[chance.choice(JSON_TEXTS)] = value.pop(key)
            else:
                del value[key]
        else:
            value[key] = _replaced(value[key], chance)
        return value
    return json.loads(json.dumps(chance.choice(JSON_VALUES)))  # a copy: what is changed later isn't the list


JSON_TEXTS = (
    *(
        "",
        "\x00",
        "\x1b[31mred\x1b[0m",
        "\u202e",
        "\ud800",
        "a\nb",
        "[red]x[/red]",
        "<script>alert(1)</script>",
        "../../x",
    ),
    *(
        "| * ` [x](http://y) $h$ {{ 1 }} {% x %}",
        "=1+1",
        "@SUM(A1)",
        "x" * 20_000,
        "$\\frac{1}",
        "nan",
        "0" * 16,
        "日本",
    ),
)
JSON_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        0.5,
        -0.0,
        1e308,
        5e-324,
        2**63,
        10**400,
        [],
        {},
        [[]],
        [{}],
        [None],
        {"a": None},
    ),
    *(float("nan"), float("inf"), [1] * 3000, {"a": {"b": {"c": [1, "x"]}}}, *JSON_TEXTS),
)


def _flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 3, 10))):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed[: chance.randrange(len(changed) + 1)] if chance.random() < 0.2 else changed)
