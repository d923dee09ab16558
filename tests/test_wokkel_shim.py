"""All of wokkel can be imported once dynxmpp has been."""

import importlib
import pkgutil
import subprocess
import sys

import wokkel
from twisted.trial.unittest import TestCase

import dynxmpp


class Importing(TestCase):
    def test_every_module_of_wokkel(self) -> None:
        assert dynxmpp.__version__
        names = [m.name for m in pkgutil.walk_packages(wokkel.__path__, "wokkel.")]
        self.assertGreater(len(names), 30)
        for name in names:
            importlib.import_module(name)

    def test_in_a_fresh_interpreter_without_warnings(self) -> None:
        code = "import dynxmpp, wokkel.muc, wokkel.disco, wokkel.pubsub, wokkel.ping, wokkel.data_form"
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
