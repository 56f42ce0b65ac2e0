"""Secrets come from the environment, and are neither recorded nor printed."""

import pytest

from raysweep.config.budget_settings import NotifyConfig
from raysweep.config.loading import dump_config, load_config, parse_config
from raysweep.config.secrets import MESSAGE_VARIABLES, expand, hide_values, recorded_override, refuse_unset
from raysweep.errors import ConfigError
from raysweep.pipeline.notifications import Message

TRIALS = {"A1": {"levels": ["A1"]}}


@pytest.mark.parametrize(
    ("notify", "recorded"),
    [
        ({"webhook": "https://user:SECRET@h:9/SECRET?token=SECRET"}, "https://h:9/***"),
        ({"webhook": "https://u:${PW}@h/x?token=SECRET"}, "https://u:${PW}@h/x?token=***"),
        ({"webhook": "${HOOK}"}, "${HOOK}"),
        ({"command": ["curl", "-u", "me:SECRET", "${HOOK}"]}, "- ${HOOK}"),
    ],
)
def test_the_recorded_config_has_variable_names_and_servers_but_no_secrets(notify, recorded):
    """The recorded settings are still a valid config."""
    text = dump_config(parse_config({"trials": TRIALS, "notify": notify}))
    assert recorded in text
    assert "SECRET" not in text
    import yaml

    assert parse_config(yaml.safe_load(text)).notify is not None


@pytest.mark.parametrize(
    ("override", "recorded"),
    [
        ("notify.webhook=https://h/SECRET", "notify.webhook=***"),
        ("notify={webhook: https://h/SECRET}", "notify=***"),
        ("notify.webhook=${HOOK}", "notify.webhook=${HOOK}"),
        ("notify.timeout_s=3", "notify.timeout_s=3"),
        ("model.start=https://u:SECRET@h/x", "model.start=https://***@h/x"),
    ],
)
def test_the_recorded_command_has_no_secrets(override, recorded):
    """run.json and the report repeat the command."""
    assert recorded_override(override) == recorded


def test_an_environment_variable_is_resolved_only_where_it_is_used(monkeypatch):
    """Its value is removed from messages."""
    monkeypatch.setenv("HOOK_TOKEN", "s3cr3t")
    notify = NotifyConfig(webhook="https://h/${HOOK_TOKEN}", command=("sh", "-c", "echo ${RAYSWEEP_RUN} ${HOOK_TOKEN}"))
    refuse_unset(notify)
    assert expand("https://h/${HOOK_TOKEN}", "notify.webhook") == "https://h/s3cr3t"
    assert expand("echo ${RAYSWEEP_RUN}", "notify.command") == "echo ${RAYSWEEP_RUN}"
    assert hide_values("no https://h/s3cr3t there", notify) == "no https://h/${HOOK_TOKEN} there"


def test_a_literal_webhook_is_shown_by_its_server_only():
    """At many services the path of a webhook is the secret."""
    notify = NotifyConfig(webhook="https://hooks.example.com/services/SECRET")
    message = hide_values("cannot reach https://hooks.example.com/services/SECRET", notify)
    assert message == "cannot reach https://hooks.example.com/***"


def test_an_unset_variable_is_reported_before_the_run(monkeypatch):
    """It is not noticed only hours later, when there is something to report."""
    monkeypatch.delenv("HOOK_TOKEN", raising=False)
    notify = NotifyConfig(webhook="https://h/${HOOK_TOKEN}", command=("say", "${not a name}"))
    with pytest.raises(ConfigError) as error:
        refuse_unset(notify)
    assert error.value.problems == (
        "notify.webhook: the environment variable HOOK_TOKEN is not set; set it before the command",
        "notify.command: found '${not a name}'; must be the name of an environment variable",
    )
    with pytest.raises(ConfigError, match=r"notify\.webhook: the environment variable HOOK_TOKEN is not set"):
        expand("${HOOK_TOKEN}", "notify.webhook")


def test_a_variable_in_another_setting_is_refused(tmp_path):
    """It would be taken literally, as a file of that name."""
    path = tmp_path / "experiments.yaml"
    path.write_text("default: a\nprofiles: {a: {data: {path: '${HOME}/x.csv'}, trials: {A1: {levels: [A1]}}}}")
    with pytest.raises(
        ConfigError, match=r"data\.path: found '\$\{HOME\}/x\.csv'; environment variables are looked up"
    ):
        load_config(path)


def test_the_documented_variables_are_those_that_a_notification_command_gets():
    """Declared where they are left to the command's own shell."""
    assert {f"RAYSWEEP_{name.upper()}" for name in Message.__dataclass_fields__} == MESSAGE_VARIABLES
