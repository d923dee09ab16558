"""What is installed is what is needed: the plugin where twistd looks for it, every package, the typing mark."""

import subprocess
import sys
import zipfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.fixtures.server import PROJECT, TWISTD, temporary_folder


class Wheel(TestCase):
    def test_contents(self) -> None:
        folder = temporary_folder(self)
        source = folder / "source"
        command = ["git", "-C", str(PROJECT), "checkout-index", "--all", "--prefix", f"{source}/"]
        subprocess.run(command, check=True)
        wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*wheel, "--wheel-dir", str(folder), str(source)], check=True, capture_output=True)
        (built,) = folder.glob("*.whl")
        names = set(zipfile.ZipFile(built).namelist())
        wanted = {str(path.relative_to(source)) for path in (source / "dynxmpp").rglob("*.py")}
        self.assertGreater(len(wanted), 100)
        self.assertEqual(set(), wanted - names)
        self.assertIn("twisted/plugins/dynxmpp_plugin.py", names)
        self.assertIn("dynxmpp/py.typed", names)
        self.assertFalse({name for name in names if name.startswith("tests/")})
        self.assertNotIn("twisted/plugins/__init__.py", names)


class Plugin(TestCase):
    def test_twistd_lists_it_from_anywhere(self) -> None:
        done = subprocess.run([TWISTD, "--help"], cwd=Path("/"), capture_output=True, text=True, check=True)
        self.assertRegex(done.stdout, r"\n +dynxmpp +An XMPP server")
