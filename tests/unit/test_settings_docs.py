import re
from dataclasses import fields
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from nerloop.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES = yaml.safe_load(COMPOSE)["services"]
NETWORKS = yaml.safe_load(COMPOSE)["networks"]
OURS = ("ml-backend", "worker-train", "worker-predict", "schedule")

COMPOSE_HEADING = "\n## Variables of docker-compose.yml\n"
DOCS, _, DOCS_OF_COMPOSE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8").partition(COMPOSE_HEADING)
SETTINGS_HEADING = "\n# ---- Settings ----\n"
EXAMPLE_OF_COMPOSE, _, EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8").partition(SETTINGS_HEADING)

ENTRIES = {entry.metadata["name"]: entry for entry in fields(Settings)}
DEFAULTS = {name: "" if entry.default is None else str(entry.default) for name, entry in ENTRIES.items()}
SECRETS = {name for name, entry in ENTRIES.items() if entry.metadata["secret"]}
READERS = {"CLI", "ML backend", "workers", "console", "embedded stack"}

VARIABLE = re.compile(r"\$\{([A-Z_]+)(:\?|:-|-)?([^}]*)\}")
NAMED_LIKE_A_SECRET = re.compile(r"(PASS|PASSWORD|SECRET|TOKEN|API_KEY|AUTH)$")

# What Label Studio 1.23.2 bans by itself: label_studio/core/utils/io.py, validate_ip.
BANNED_BY_DEFAULT = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24
    192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 233.252.0.0/24 240.0.0.0/4
    255.255.255.255/32 ::/128 ::1/128 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001:0000::/32
    2001:20::/28 2001:db8::/32 2002::/16 fc00::/7 fe80::/10 ff00::/8
"""


def table(markdown):
    """Return the cells of every row whose first cell is a name in backticks."""
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in markdown.splitlines() if line.startswith("| `")]
    return [[cell.strip("` ") if number < 2 else cell for number, cell in enumerate(row)] for row in rows]


def assignments(example):
    """Return (name, value, the comment line above) of every NAME=value line, commented out or not."""
    lines = ["", *example.splitlines()]
    found = [(re.fullmatch(r"#?([A-Z_]+)=(.*)", line), above) for above, line in pairwise(lines)]
    return [(match[1], match[2], above.removeprefix("# ")) for match, above in found if match]


def variables():
    """Return {name: {how it is used}} of what docker-compose.yml takes from .env or the shell, by `${NAME…}`."""
    used = {}
    for name, operator, text in VARIABLE.findall(COMPOSE):
        used.setdefault(name, set()).add((operator, "" if operator == ":?" else text))
    return used


def networks(text):
    return [ip_network(part) for part in re.split(r"[,\s]+", text.strip())]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_setting_is_in_the_docs_with_its_default_and_its_readers(name):
    rows = [row for row in table(DOCS) if row[0] == name]

    assert len(rows) == 1
    _, default, meaning, readers = rows[0]
    assert default == (DEFAULTS[name] or "empty")
    assert meaning
    assert set(readers.split(", ")) <= READERS


@pytest.mark.parametrize("name", ENTRIES)
def test_every_setting_is_in_the_example_with_its_default(name):
    values = [value for found, value, _ in assignments(EXAMPLE_OF_COMPOSE + EXAMPLE) if found == name]

    assert values == [DEFAULTS[name]]


def test_the_example_explains_every_setting_in_the_words_of_the_settings_table():
    for name, _, comment in assignments(EXAMPLE):
        assert comment == ENTRIES[name].metadata["help"]


def test_the_docs_name_no_setting_that_does_not_exist():
    assert {row[0] for row in table(DOCS)} <= ENTRIES.keys()
    assert set(re.findall(r"`((?:NERLOOP|BASIC_AUTH)_[A-Z_]+)`", DOCS + DOCS_OF_COMPOSE)) <= ENTRIES.keys()


def test_the_example_names_no_setting_that_does_not_exist():
    assert {name for name, _, _ in assignments(EXAMPLE)} <= ENTRIES.keys()


def test_the_docs_list_exactly_the_settings_that_are_secret():
    section = DOCS.partition("\n## Secrets\n")[2]

    assert set(re.findall(r"^- `([A-Z_]+)`$", section, re.MULTILINE)) == SECRETS


def test_the_docs_list_the_variables_of_the_compose_file_with_their_defaults():
    documented = {name: default for name, default, _ in table(DOCS_OF_COMPOSE)}

    assert documented.keys() == variables().keys()
    for name, uses in variables().items():
        assert {"none" if operator == ":?" else text for operator, text in uses} == {documented[name]}


def test_the_example_lists_the_variables_of_the_compose_file_with_their_defaults():
    listed = {name: value for name, value, _ in assignments(EXAMPLE_OF_COMPOSE)}

    assert listed.keys() == variables().keys()
    for name, uses in variables().items():
        assert {text for _, text in uses} == {listed[name]}


def test_the_docs_list_the_settings_that_the_compose_file_passes_on():
    passed_on = [name for name, value in SERVICES["ml-backend"]["environment"].items() if value is None]
    paragraph = DOCS_OF_COMPOSE.partition("it passes on")[2]

    assert set(re.findall(r"`(NERLOOP_[A-Z_]+)`", paragraph)) == set(passed_on)


def test_the_compose_file_gives_no_secret_a_default():
    for name, uses in variables().items():
        if name in SECRETS or NAMED_LIKE_A_SECRET.search(name):
            assert {operator for operator, _ in uses} == {":?"}, name


def test_the_compose_file_holds_no_secret_itself():
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if NAMED_LIKE_A_SECRET.search(name) and value not in {"true", None}:  # None: passed on where it is set
                assert VARIABLE.fullmatch(value), name
    assert not re.search(r"://[^/@\s]*:[^/@\s]+@", VARIABLE.sub("", COMPOSE))


def test_every_variable_of_ours_in_the_compose_file_is_a_setting():
    assert set(re.findall(r"NERLOOP_[A-Z_]+", COMPOSE)) <= ENTRIES.keys()
    for service in OURS:
        assert SERVICES[service]["environment"].keys() <= ENTRIES.keys()


def test_label_studio_in_the_compose_file_may_call_our_processes_and_no_other_private_address():
    environment = SERVICES["label-studio"]["environment"]
    banned = networks(environment["USER_ADDITIONAL_BANNED_SUBNETS"])
    (place,) = NETWORKS["annotation"]["ipam"]["config"]
    ours, gateway = ip_network(place["subnet"]), ip_network(place["gateway"])

    assert (environment["SSRF_PROTECTION_ENABLED"], environment["ML_BLOCK_LOCAL_IP"]) == ("true", "true")
    assert environment["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    for kind in (IPv4Network, IPv6Network):
        expected = [network for network in networks(BANNED_BY_DEFAULT) if isinstance(network, kind)]
        covered = [network for network in (*banned, ours) if isinstance(network, kind)]
        assert list(collapse_addresses(covered)) == list(collapse_addresses(expected))
    assert [network for network in banned if network.version == 4 and network.overlaps(ours)] == [gateway]
    assert {name for name, service in SERVICES.items() if "annotation" in service["networks"]} == {
        "label-studio",
        *OURS,
    }


def test_the_ml_backends_address_in_the_compose_file_has_the_dot_that_label_studio_wants_of_a_webhook():
    host = urlsplit(SERVICES["ml-backend"]["environment"]["NERLOOP_BACKEND_URL"]).hostname

    assert "." in host
    assert host in SERVICES["ml-backend"]["networks"]["annotation"]["aliases"]


def test_no_variable_of_label_studio_in_the_compose_file_can_become_an_empty_boolean():
    values = SERVICES["label-studio"]["environment"].items()

    assert {name for name, value in values if not value} == {"SENTRY_DSN", "FRONTEND_SENTRY_DSN"}
    assert not [value for _, value in values if value.endswith(("-}", ":-}"))]
