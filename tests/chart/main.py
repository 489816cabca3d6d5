"""Runs the tests of the chart, of the image's recipe and of the compose file; or those of another folder.

Usage: python main.py [--in FOLDER] [WORD...]      with words, only tests whose name holds one of them

A test is a function of a test_*.py whose name does not begin with _; its name is the sentence that would be false.
"""

import importlib
import inspect
import pathlib
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent


def tests(folder):
    """The tests of every module, in the order in which they are written."""
    for path in sorted(folder.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                yield path.stem, name, value


def main(words):
    """Exit code 0 when something ran and nothing failed."""
    folder = HERE
    if words[:1] == ["--in"]:
        folder, words = pathlib.Path(words[1]).resolve(), words[2:]
        sys.path.insert(0, str(folder))
    passed, failed = 0, 0
    for module, name, test in tests(folder):
        if words and not any(word in f"{module}.{name}" for word in words):
            continue
        begin = time.monotonic()
        try:
            test()
        except Exception:  # Whatever goes wrong is a failure of this test, and the others still run.
            failed += 1
            print(f"FAILED {module}: {name}\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"ok     {module}: {name} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(HERE))
    sys.exit(main(sys.argv[1:]))
