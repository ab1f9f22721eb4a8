"""Signed bundles, whose signature counts, versions that never go back: through the command line, as it is used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall.bundle import DEFAULT, load_bundle, write_bundle
from firewall.bundle.cli import sign_bundle
from firewall.bundle.signature import generate, read_public
from firewall.bundle.trust import Trust, state_file
from firewall.cli import app, run
from firewall.errors import BundleError, ConfigError, UsageError

Answer = tuple[int, str, str]
Call = Callable[..., Answer]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where versions are remembered; nothing else of the environment counts."""
    for name in ("FIREWALL_TRUST", "FIREWALL_ALLOW_UNSIGNED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FIREWALL_TRUST_STATE", str(tmp_path / "state" / "bundles.json"))
    return tmp_path / "state" / "bundles.json"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys: ours, other."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "other"):
        generate(folder / name)
    return folder


@pytest.fixture
def bundle(tmp_path: Path, keys: Path) -> Path:
    """A bundle of two files in a folder of its own, version 5, signed by our key."""
    made = load_bundle()
    fields = made.manifest.model_dump(exclude={"files", "name", "version"})
    write_bundle(tmp_path / "bundle", {**made.files, "notes.txt": b"spare"}, name="mine", version=5, **fields)
    sign_bundle(tmp_path / "bundle", keys / "ours")
    return tmp_path / "bundle"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command line; exit code, stdout, stderr."""

    def called(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run(app, [str(argument) for argument in arguments], "firewall")
        out, err = capsys.readouterr()
        return code, out, err

    return called


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An image to judge."""
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    return tmp_path / "grey.png"


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def swap(bundle: Path, keys: Path) -> None:
    """Another classifier, with a manifest that fits it: only the signature can tell."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    content = (bundle / "classifier.onnx").read_bytes() + b"\x32\x00"  # protobuf: an empty doc_string more
    (bundle / "classifier.onnx").write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["files"]["classifier.onnx"] = entry
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def link_out(bundle: Path, name: str) -> None:
    outside = bundle.parent / f"outside-{name}"
    (bundle / name).rename(outside)
    (bundle / name).symlink_to(outside)


TAMPERING: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "bit of the classifier": (lambda b, k: flip(b / "classifier.onnx", 80_001), "is not the file that its bundle"),
    "bit of the manifest": (
        lambda b, k: (b / "manifest.json").write_bytes(
            (b / "manifest.json").read_bytes().replace(b'"created": "2', b'"created": "3')
        ),
        "is not that of a trusted key",
    ),
    "bit of the signature": (lambda b, k: flip(b / "manifest.json.sig", 300), "is not that of a trusted key"),
    "short signature": (lambda b, k: (b / "manifest.json.sig").write_bytes(b"\0" * 63), "is not that of a trusted"),
    "endless signature": (lambda b, k: (b / "manifest.json.sig").write_bytes(b"\0" * 999), "larger than 64"),
    "wrong key": (lambda b, k: sign_bundle(b, k / "other"), "is not that of a trusted key"),
    "no signature": (lambda b, k: (b / "manifest.json.sig").unlink(), "is not signed"),
    "swapped file": (swap, "is not that of a trusted key"),
    "files exchanged": (
        lambda b, k: shutil.copy(b / "notes.txt", b / "classifier.onnx"),
        "is not the file that its bundle",
    ),
    "link out of the bundle": (lambda b, k: link_out(b, "classifier.onnx"), "is a link out of its bundle"),
    "manifest is a link": (lambda b, k: link_out(b, "manifest.json"), "is a link out of its bundle"),
    "signature is a link": (lambda b, k: link_out(b, "manifest.json.sig"), "is a link out of its bundle"),
    "a pipe": (
        lambda b, k: ((b / "notes.txt").unlink(), os.mkfifo(b / "notes.txt")),
        "is no plain file",
    ),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_a_bundle_that_was_tampered_with_is_refused(
    how: str, bundle: Path, keys: Path, picture: Path, call: Call, state: Path
) -> None:
    """screen and serve: exit code 1, one line on stderr that says why, no verdict, no page, no version remembered."""
    change, words = TAMPERING[how]
    change(bundle, keys)
    trust = ("--bundle", bundle, "--trust", keys / "ours.pub")

    for command in (("screen", picture, *trust), ("serve", "--source", picture, "--http", "127.0.0.1:0", *trust)):
        code, out, err = call(*command)

        assert (code, out) == (1, "")
        assert err.startswith("firewall: error: ") and err.count("\n") == 1 and words in err
    assert not state.exists()


def test_a_signed_bundle_is_used_and_its_version_remembered(
    bundle: Path, keys: Path, picture: Path, call: Call, state: Path
) -> None:
    """Its verdicts don't say unsigned; verify tells who signed it and remembers nothing."""
    code, out, _ = call("bundle", "verify", bundle, "--trust", keys / "ours.pub")
    assert code == 0 and "signed by the trusted key" in out and not state.exists()

    code, out, err = call("screen", picture, "--bundle", bundle, "--trust", keys / "ours.pub")

    assert code == 0 and "unsigned" not in out + err
    assert json.loads(state.read_text())["mine"]["version"] == 5


def test_a_version_never_goes_back(bundle: Path, keys: Path, picture: Path, call: Call, tmp_path: Path) -> None:
    """After version 6 was accepted, 5 is refused, and so is another bundle of version 6; 6 itself is used again."""
    older = Path(shutil.copytree(bundle, tmp_path / "older"))
    sign_bundle(bundle, keys / "ours", version=6)
    rival = Path(shutil.copytree(older, tmp_path / "rival"))
    (rival / "manifest.json").write_text(
        (rival / "manifest.json").read_text().replace('"created": "2', '"created": "3')
    )
    sign_bundle(rival, keys / "ours", version=6)
    screen = ("screen", picture, "--trust", keys / "ours.pub", "--bundle")

    assert call(*screen, bundle)[0] == 0
    for refused, words in ((older, "version 6 was accepted before"), (rival, "give it a higher version")):
        code, out, err = call(*screen, refused)
        assert (code, out, err.count("\n")) == (1, "", 1) and words in err
    assert call(*screen, bundle)[0] == 0


def test_what_is_remembered_must_be_readable_and_writable(bundle: Path, keys: Path, state: Path) -> None:
    """A damaged file, or one that can't be written, refuses: else deleting a right would be a way back."""
    trust = Trust.configured(keys / "ours.pub")
    state.parent.write_text("a file in the folder's place")
    with pytest.raises(BundleError, match=r"FIREWALL_TRUST_STATE"):
        load_bundle(bundle, trust=trust)
    state.parent.unlink()
    state.parent.mkdir()
    for damage in ("", "{", '{"mine": {"version": "x"}}', '{"mine": 1}'):
        state.write_text(damage)
        with pytest.raises(BundleError, match="it is damaged"):
            load_bundle(bundle, trust=trust)


def test_without_a_trusted_key_every_verdict_says_unsigned(bundle: Path, picture: Path, call: Call) -> None:
    """Signed or not: nobody here knows the key. The default bundle is the package's own and says nothing."""
    for path in (bundle, None):
        named = () if path is None else ("--bundle", path)
        code, out, err = call("screen", picture, *named)
        assert code == 0 and (json.loads(out).get("unsigned") is True) == (path is not None)
        assert ("every verdict says 'unsigned'" in err) == (path is not None)
    lines = picture.with_name("lines.jsonl")
    served = ("--regions", "whole", "--http", "off", "--output", f"jsonl:{lines}", "--bundle", bundle)
    assert call("serve", "--source", picture, "--allow-unsigned", *served)[0] == 0
    assert json.loads(lines.read_text())["unsigned"] is True


def test_serve_refuses_a_bundle_that_nobody_vouches_for(
    bundle: Path, keys: Path, picture: Path, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path
) -> None:
    """Issue 15, row 19: without a trusted key `serve` takes no other bundle than the package's, signed or not, named by
    option, settings or environment, also not a copy of the package's own; one line says which, what is allowed and
    what to do, and no page is opened. --trust, --allow-unsigned, their settings and their variables let it start."""
    lines = tmp_path / "lines.jsonl"
    served = ("serve", "--source", picture, "--regions", "whole", "--http", "off", "--output", f"jsonl:{lines}")
    copied = Path(shutil.copytree(DEFAULT, tmp_path / "copied"))
    for path in (bundle, copied):
        code, out, err = call("serve", "--source", picture, "--http", "127.0.0.1:0", "--bundle", path)
        assert (code, out, err.count("\n")) == (1, "", 1) and "live page" not in err
        assert err.startswith(f"firewall: error: nobody vouches for bundle {path}: ")
        assert "only the package's own" in err and "--trust KEY.pub" in err and "--allow-unsigned" in err
    settings = tmp_path / "settings.yaml"
    for text, code, unsigned in (
        (f"bundle: {bundle}\n", 1, None),
        (f"bundle: {bundle}\nallow_unsigned: false\n", 1, None),
        (f"bundle: {bundle}\nallow_unsigned: true\n", 0, True),
        (f"bundle: {bundle}\ntrust: {keys / 'ours.pub'}\n", 0, None),
        ("bundle: default\n", 0, None),
        (f"bundle: {DEFAULT}\n", 0, None),
    ):
        settings.write_text(text)
        lines.unlink(missing_ok=True)
        assert call(*served, "--config", settings)[0] == code, text
        assert lines.exists() == (code == 0), text
        assert code or json.loads(lines.read_text()).get("unsigned") is unsigned, text

    monkeypatch.setenv("FIREWALL_BUNDLE", str(bundle))
    assert call(*served)[0] == 1
    for name, value in (("FIREWALL_ALLOW_UNSIGNED", "1"), ("FIREWALL_TRUST", str(keys / "ours.pub"))):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            assert call(*served)[0] == 0, name
    assert json.loads(state.read_text())["mine"]["version"] == 5


def test_allow_unsigned_lets_in_what_has_no_signature_but_not_a_false_one(
    bundle: Path, keys: Path, picture: Path, call: Call
) -> None:
    """With a trusted key: no signature and the flag, used and marked; a wrong signature, refused with the flag too."""
    command = ("screen", picture, "--bundle", bundle, "--trust", keys / "other.pub", "--allow-unsigned")
    code, out, err = call(*command)
    assert (code, out) == (1, "") and "is not that of a trusted key" in err
    (bundle / "manifest.json.sig").unlink()
    code, out, _ = call(*command)
    assert code == 0 and json.loads(out)["unsigned"] is True


def test_the_environment_is_heard_wherever_a_bundle_is_opened(
    bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, call: Call, picture: Path
) -> None:
    """FIREWALL_TRUST and FIREWALL_ALLOW_UNSIGNED count for the Python API, screen and serve; nonsense is an error."""
    monkeypatch.setenv("FIREWALL_TRUST", str(keys / "other.pub"))
    with pytest.raises(BundleError, match="trusted key"):
        load_bundle(bundle)
    for command in (("screen", picture), ("serve", "--source", picture, "--http", "off")):
        assert call(*command, "--bundle", bundle)[0] == 1
    assert load_bundle().standing == "package"
    (bundle / "manifest.json.sig").unlink()
    monkeypatch.setenv("FIREWALL_ALLOW_UNSIGNED", "1")
    assert load_bundle(bundle).unsigned
    monkeypatch.setenv("FIREWALL_ALLOW_UNSIGNED", "perhaps")
    with pytest.raises(ConfigError, match="perhaps"):
        load_bundle(bundle)
    monkeypatch.setenv("FIREWALL_TRUST", "")
    with pytest.raises(UsageError, match="can't read the key"):
        load_bundle(bundle)


def test_several_keys_of_one_file_are_trusted(bundle: Path, keys: Path, tmp_path: Path) -> None:
    """So that keys can be changed without a day on which neither counts."""
    both = tmp_path / "both.pub"
    both.write_bytes((keys / "other.pub").read_bytes() + (keys / "ours.pub").read_bytes())
    assert load_bundle(bundle, trust=Trust.configured(both)).key == read_public(keys / "ours.pub")[0].fingerprint


def test_a_link_within_the_bundle_is_followed(bundle: Path, keys: Path) -> None:
    """Some systems mount files as links beside a folder of the same mount; nothing leaves the bundle."""
    (bundle / "inner").mkdir()
    (bundle / "classifier.onnx").rename(bundle / "inner" / "classifier.onnx")
    (bundle / "classifier.onnx").symlink_to(Path("inner") / "classifier.onnx")
    assert load_bundle(bundle, trust=Trust.configured(keys / "ours.pub")).standing == "signed"


def test_writing_a_bundle_anew_takes_its_signature_away(bundle: Path) -> None:
    """What was signed is not what lies there now."""
    made = load_bundle(bundle)
    write_bundle(bundle, made.files, **made.manifest.model_dump(exclude={"files"}))
    assert not (bundle / "manifest.json.sig").exists()


def test_keys_are_made_once_and_kept_private(tmp_path: Path, call: Call, bundle: Path) -> None:
    """Mode 600, never overwritten; an encrypted one signs with its passphrase alone."""
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    code, out, _ = call("bundle", "keygen", "--out", tmp_path / "k", "--passphrase-file", secret)
    assert code == 0 and "fingerprint" in out
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert call("bundle", "keygen", "--out", tmp_path / "k")[0] == 2
    code, _, err = call("bundle", "sign", bundle, "--key", tmp_path / "k")
    assert code == 2 and "--passphrase-file" in err
    code, out, _ = call("bundle", "sign", bundle, "--key", tmp_path / "k", "--passphrase-file", secret)
    assert code == 0 and "mine version 5, signed by" in out
    code, _, err = call("bundle", "verify", bundle, "--trust", tmp_path / "k")
    assert code == 2 and "give the public key" in err
    code, _, err = call("bundle", "sign", bundle, "--key", tmp_path / "k.pub")
    assert code == 2 and "private key" in err
    assert call("bundle", "sign", DEFAULT, "--key", tmp_path / "k")[0] == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees_with_the_signature(bundle: Path, keys: Path) -> None:
    """The formats are no invention of ours: another program verifies the same files, and refuses a changed one."""
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys / "ours.pub"), "-rawin"]
    command += ["-in", str(bundle / "manifest.json"), "-sigfile", str(bundle / "manifest.json.sig")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if "rawin" in done.stderr:
        pytest.skip("this openssl is too old for Ed25519 files")
    assert done.returncode == 0, done.stderr
    flip(bundle / "manifest.json", 800)
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_show_tells_what_is_in_a_bundle(bundle: Path, keys: Path, call: Call) -> None:
    """JSON has everything; the table names classifier, detectors, calibration, files and who signed."""
    code, out, _ = call("bundle", "show", bundle, "--trust", keys / "ours.pub", "--json")
    card = json.loads(out)
    assert code == 0 and card["signature"]["standing"] == "signed" and card["version"] == 5
    assert card["classifier"]["classes"] == 43 and card["files"]["notes.txt"]["bytes"] == 5
    assert {detector["name"] for detector in card["detectors"]} == {
        spec.name for spec in load_bundle().manifest.detectors
    }
    assert card["calibration"]["images"] >= 1000

    code, out, _ = call("bundle", "show", bundle)
    assert code == 0 and "no trusted key to check it with" in " ".join(out.split())
    told = " ".join(out.split())
    assert all(word in told for word in ("stability", "confidence", "notes.txt", "43 classes", "mine, version 5"))


def test_a_bundle_can_not_steer_the_terminal(tmp_path: Path, call: Call) -> None:
    """Control characters and markup in a manifest are shown as what they are."""
    made = load_bundle()
    fields = {**made.manifest.model_dump(exclude={"files"}), "name": "a\x1b]0;gone\x07[red]b"}
    write_bundle(tmp_path / "b", made.files, **fields)
    _, out, _ = call("bundle", "show", tmp_path / "b")
    assert "\x1b]0" not in out and "a?]0;gone?[red]b" in out


def test_the_file_of_versions_is_where_the_user_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIREWALL_TRUST_STATE, else the user's folder for state, else nowhere, and then no signed bundle is taken."""
    assert state_file() == tmp_path / "state" / "bundles.json"
    monkeypatch.setenv("FIREWALL_TRUST_STATE", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_file() == tmp_path / "xdg" / "perception-firewall" / "bundles.json"

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(BundleError, match="has no home to remember in which versions"):
        state_file()


def test_a_version_that_can_not_be_remembered_is_not_accepted(
    bundle: Path, keys: Path, state: Path, tmp_path: Path
) -> None:
    """A folder in the file's place can't be read; one in the place of what is written first can't be written."""
    trust = Trust.configured(keys / "ours.pub")
    state.mkdir(parents=True)
    with pytest.raises(BundleError, match="can't read which bundle versions were accepted from"):
        load_bundle(bundle, trust=trust)
    state.rmdir()
    state.with_name(f".{state.name}.{os.getpid()}.partial").mkdir()
    with pytest.raises(BundleError, match="can't remember the bundle's version in"):
        load_bundle(bundle, trust=trust)
    assert not state.exists()


def test_a_trust_without_a_file_remembers_nothing(bundle: Path, keys: Path, state: Path) -> None:
    """In a program that says so itself; a file that it names is used."""
    trust = Trust(keys=read_public(keys / "ours.pub"))
    assert load_bundle(bundle, trust=trust).standing == "signed" and not state.exists()
    load_bundle(bundle, trust=Trust(keys=trust.keys, state=state))
    assert json.loads(state.read_text())["mine"]["version"] == 5
