"""Completion: what a shell offers after `cxr` once its script is installed."""

import functools
import subprocess

import pytest

from flows.commands.app import app

ASK = """
{script}
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
COMP_LINE="${{COMP_WORDS[*]}}"
COMP_POINT=${{#COMP_LINE}}
"$(complete -p cxr | sed -E 's/.*-F ([^ ]+).*/\\1/')" cxr "${{COMP_WORDS[COMP_CWORD]}}" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@functools.cache
def bash_script() -> str:
    """Return the script that `cxr --install-completion` writes for bash; making it takes seconds."""
    return app.generate_completion(shell="bash")


def offered(words: str) -> set[str]:
    """Return what bash offers for the last of these words."""
    script = ASK.format(script=bash_script(), words=words)
    done = subprocess.run(
        ["bash", "--norc", "-s"], input=script, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "some"),
    [
        ("cxr pre", {"predict", "preprocess"}),
        ("cxr registry r", {"restore", "rollback"}),
        ("cxr run --ensem", {"--ensemble"}),
        ("cxr run --preset q", {"quick"}),
    ],
)
def test_bash_completes_commands_flags_and_choices(words, some):
    """The installed script is run by bash as at the Tab key."""
    last = words.rpartition(" ")[2]
    found = offered(words)
    assert some <= found
    assert all(each.startswith(last) for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_with_every_command(shell):
    """Every command of the program, `cxr site` for example, stands in the script."""
    script = app.generate_completion(shell=shell)
    commands = [name for name in app if not name.startswith("-")]
    assert "site" in commands
    assert [name for name in commands if name not in script] == []
