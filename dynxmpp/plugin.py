"""`twistd dynxmpp`: from the command line to a running server."""

import sys
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.logfile import LogFile

from dynxmpp.config.host_config import Config
from dynxmpp.config.loader import load_config
from dynxmpp.config.report import ConfigErrors
from dynxmpp.log import ServerLog
from dynxmpp.module_loader import config_models, discover
from dynxmpp.server import Server


class Options(usage.Options):
    """The command line of `twistd dynxmpp`."""

    synopsis = "[-c FILE] [--check] [--json-log]"
    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", "etc/dynxmpp.toml", "The configuration file."],
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["check", None, "Say whether the configuration is valid, and exit."],
        ["json-log", None, "Log JSON objects instead of lines for people."],
    ]
    loaded: Config

    def postOptions(self) -> None:
        path = Path(self["config"])
        self.loaded = load(path)
        if self["check"]:
            sys.stdout.write(f"{path}: valid\n")
            raise SystemExit(0)


def load(path: Path) -> Config:
    """The configuration in `path`; with mistakes in it, prints each on a line of stderr and ends with status 1."""
    try:
        return load_config(path, config_models(discover()))
    except ConfigErrors as errors:
        for problem in errors.problems:
            sys.stderr.write(f"{problem}\n")
        raise SystemExit(1) from None


class Root(MultiService):
    """The top of the service tree: gives twistd our log observer instead of its own."""

    def __init__(self, log: ServerLog) -> None:
        super().__init__()
        self._log = log

    def setServiceParent(self, parent: Any) -> None:
        parent.setComponent(ILogObserver, self._log.observer)
        super().setServiceParent(parent)


def _log_file(options: Options) -> Any:
    """Where twistd's own options want the log: stdout in the foreground, else its --logfile."""
    twistd: Any = options.parent or {}
    path = twistd.get("logfile")
    if path in (None, "-") and (path == "-" or twistd.get("nodaemon")):
        return sys.stdout
    # Rotated by size, as twistd's own log is.
    return LogFile.fromFullPath(str(Path(path or "twistd.log").absolute()))


def makeService(options: Options) -> IService:
    """What twistd runs."""
    from twisted.internet import reactor

    config = options.loaded
    log = ServerLog(_log_file(options), level=config.general.loglevel, as_json=bool(options["json-log"]))
    root = Root(log)
    Server(
        config, reactor, log, reload_config=lambda: load_config(config.path, config_models(discover()))
    ).setServiceParent(root)
    return root
