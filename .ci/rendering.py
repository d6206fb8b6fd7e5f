#!/usr/bin/env python3
"""Looks at rendered pages as a reader sees them, in Chromium without a window.

    .ci/rendering.py PATH...      built books (folders) and pages; ends with 1 if anything is wrong

At 390, 800 and 1280 px, light and dark:

  cut, outside, overflow  text or a block that ends where nobody can scroll to
  wide code               code that has to be scrolled at 1280 px
  torn                    a number that is broken into lines
  small                   text below 11 px, in figures too, as drawn
  contrast                below WCAG 2 AA: 4.5, or 3 for large text
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTHS = (390, 800, 1280)
THEMES = ("light", "dark")
# One chapter after the other once more, the table of contents alone, and the page of a server.
NOT_READ = ("print.html", "toc.html", "404.html")


class Chromium:
    """A browser without a window, told what to do by the DevTools protocol over a pipe."""

    def __init__(self, program, folder):
        command_read, self.commands = os.pipe()
        self.answers, answer_write = os.pipe()
        arguments = [
            program, "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu",
            "--hide-scrollbars", "--allow-file-access-from-files", "--disable-background-networking",
            f"--user-data-dir={folder}",
        ]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # which root has to say

        def pipes():
            # The protocol reads from descriptor 3 and writes to 4, which may be what one of these is.
            one, two = os.dup(command_read), os.dup(answer_write)
            high = max(one, two, 8) + 1
            os.dup2(one, high), os.dup2(two, high + 1)
            os.dup2(high, 3), os.dup2(high + 1, 4)

        self.process = subprocess.Popen(
            arguments, preexec_fn=pipes, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read), os.close(answer_write)
        self.sent, self.buffer, self.session, self.events = 0, b"", None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")

    def message(self):
        while b"\0" not in self.buffer:
            more = os.read(self.answers, 1 << 20)
            if not more:
                sys.exit("Chromium ended")
            self.buffer += more
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **parameters):
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.sent:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer.get("method"))

    def open(self, page):
        self.events.clear()
        self.ask("Page.navigate", url=page.resolve().as_uri())
        while "Page.loadEventFired" not in self.events:
            self.events.append(self.message().get("method"))

    def evaluate(self, script):
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            sys.exit(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def end(self):
        self.ask("Browser.close") if self.process.poll() is None else None
        self.process.wait(10)


def pages(path):
    if path.is_file():
        return [path]
    return [page for page in sorted(path.rglob("*.html")) if page.name not in NOT_READ]


def main():
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    paths = [Path(argument) for argument in sys.argv[1:]]
    if not paths or program is None:
        sys.exit(__doc__ if not paths else "there is no Chromium")
    script = (Path(__file__).parent / "rendering.js").read_text()
    found, looked_at = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        chromium = Chromium(program, folder)
        for root in paths:
            for page in pages(root):
                name = page.name if page == root else str(page.relative_to(root))
                for theme in THEMES:
                    chromium.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
                    for width in WIDTHS:
                        chromium.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
                        chromium.open(page)
                        for kind, element, value in chromium.evaluate(script):
                            seen = found.setdefault((name, kind, element), [value, set(), set()])
                            seen[1].add(width), seen[2].add(theme)
                looked_at += 1
        chromium.end()
    if found:
        print("| Page | Fault | Element | At worst | px | Theme |\n| --- | --- | --- | --- | --- | --- |")
    for (name, kind, element), (value, widths, themes) in found.items():
        widths = ", ".join(map(str, sorted(widths)))
        print(f"| {name} | {kind} | {element.replace('|', '/')} | {value} | {widths} | {', '.join(sorted(themes))} |")
    print(f"{len(found)} faults on {looked_at} pages at {', '.join(map(str, WIDTHS))} px, {' and '.join(THEMES)}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
