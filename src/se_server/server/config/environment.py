"""Options from the environment, beside variables that only begin like one.

Kubernetes sets variables in every pod for each service of the namespace, and Docker for each linked container. Those of
a service or container whose name begins with `se-server` have the prefix of the options.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Mapping

from se_server.errors import ConfigError
from se_server.options import ENVIRONMENT_PREFIX
from se_server.server.config.options import BY_NAME, OPTIONS
from se_server.spelling import nearest

logger = logging.getLogger("se_server.server.config")

_PORT_VALUE = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)
_OF_SERVICE = re.compile(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
_LINK = re.compile(r"(\w+?)(_PORT(_\d+_(TCP|UDP|SCTP))?)$")

_LINK_PATH = re.compile(r"/[\w.-]+/[\w.-]+")

_RESEMBLANCE = 0.65
# A server must not start without a protection whose name was written in another way: SE_SERVER_IP_ALLOWLIST.
_OF_ACCESS = frozenset((
    "allow", "allowed", "allowlist", "api", "auth", "authentication", "authorization", "ca", "cert", "certs",
    "certificate", "header", "headers", "ip", "ips", "key", "keys", "proxies", "proxy", "require", "required",
    "secret", "tls", "token", "tokens", "trust", "trusted", "whitelist",
))  # fmt: skip


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the options that the environment gives, by name, and the variables that give none.

    The address of a service, which Kubernetes and Docker set, may have the name of an option: `SE_SERVER_PORT`.

    Raises:
        ConfigError: a variable is nearly the name of an option.
    """
    links = _links(environ)
    found: dict[str, str] = {}
    unknown = []
    for variable, value in environ.items():
        name = variable[len(ENVIRONMENT_PREFIX) :].lower()
        if not variable.startswith(ENVIRONMENT_PREFIX):
            if variable.upper() == ENVIRONMENT_PREFIX + name.upper() and name in BY_NAME:
                raise ConfigError(f"{variable} in the environment is not an option; did you mean {variable.upper()}?")
            continue
        if name == "config":
            continue
        if _is_of_service(variable, value, links):
            if name in BY_NAME:
                unknown.append(variable)
            continue
        if name in BY_NAME and variable == variable.upper():
            if value.strip() or BY_NAME[name].takes_blanks:  # compose files write `NAME=` for "not set"
                found[name] = value
        elif _resembles_option(name):
            raise ConfigError(
                f"{variable} in the environment is not an option"
                + nearest(variable, (option.variable for option in OPTIONS), "se-server --help")
            )
        else:
            unknown.append(variable)
    return found, tuple(unknown)


def warn_of_unknown(variables: Iterable[str]) -> None:
    """Log the variables that have the prefix of the options and are none."""
    for variable in variables:
        if variable.removeprefix(ENVIRONMENT_PREFIX).lower() in BY_NAME:
            service = "%s in the environment is the address of a service, as Kubernetes sets it: it is passed over"
            logger.info(service, variable)
        else:
            logger.warning("%s in the environment is not an option of se-server: it is passed over", variable)


def _links(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the upper-case names of services and linked containers.

    They have a variable with the URL of a port, or, without open ports, one with the link's path.
    """
    found = set()
    for variable, value in environ.items():
        if _PORT_VALUE.match(value) and (match := _LINK.match(variable)):
            found.add(match.group(1))
        elif variable.endswith("_NAME") and _LINK_PATH.fullmatch(value):
            found.add(variable.removesuffix("_NAME"))
    return frozenset(found)


def _is_of_service(variable: str, value: str, links: frozenset[str]) -> bool:
    if _OF_SERVICE.search(variable) or (variable.endswith("_PORT") and _PORT_VALUE.match(value)):
        return True
    name = variable[len(ENVIRONMENT_PREFIX) :].lower()
    return name not in BY_NAME and any(
        variable == f"{link}_NAME" or variable.startswith(f"{link}_ENV_") for link in links
    )


def _resembles_option(name: str) -> bool:
    return (
        name in BY_NAME  # in lower case
        or bool(difflib.get_close_matches(name, BY_NAME, n=1, cutoff=_RESEMBLANCE))
        or not _OF_ACCESS.isdisjoint(name.split("_"))
    )
