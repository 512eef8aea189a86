#!/usr/bin/env python3
"""Writes a leader's platform.yml and templates: tree.py ROOT ROLE FILES BYTES, of FILES templates with BYTES in all."""

import pathlib
import sys


def write(root: pathlib.Path, role: str, files: int, size: int) -> None:
    (root / "templates").mkdir(parents=True, exist_ok=True)
    (root / "templates/settings.yml").write_text(
        "release: 1.0.0\ngroups:\n  G:\n    settings:\n      ALL: {default: zero}\n      ONE: {default: zero}\n"
    )
    (root / "platform.yml").write_text("settings: {}\n")
    for index in range(files):
        folder = root / "templates" / role / f"part{index % 7}" / "conf"
        folder.mkdir(parents=True, exist_ok=True)
        line = "key = value of the configuration, {{ALL}}\n"
        text = line * max(1, size // files // len(line))
        if index == 0:
            text += "{{ONE}}\n"
        (folder / f"file{index}.conf.hbs").write_text(text)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
