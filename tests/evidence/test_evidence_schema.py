"""evidence.json is compared with its schema, as records and as JSON Schema."""

import copy
import json

import jsonschema
import pytest
from pydantic import ValidationError

from raysweep.evidence.evidence_schema import Evidence, evidence_schema
from raysweep.report.writing import write_report
from tests.simulated_run import SHAPES, make_run


@pytest.mark.parametrize("shape", SHAPES)
def test_evidence_validates_against_its_schema(tmp_path, shape):
    """pydantic checks it with the records, and jsonschema with the file beside the evidence."""
    folder, config, trials = make_run(tmp_path, **SHAPES[shape])
    write_report(folder, config, trials)
    text = folder.evidence.read_text(encoding="utf-8")
    Evidence.model_validate_json(text)
    schema = json.loads((folder.report / json.loads(text)["$schema"]).read_text(encoding="utf-8"))
    assert schema == evidence_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))


def drop(evidence):
    del evidence["findings"][0]["p_confirm"]


def add(evidence):
    evidence["findings"][0]["p_confrim"] = 0.5


def retype(evidence):
    evidence["matrix"]["sizes"]["A1"]["documents"] = "45"


def invent(evidence):
    evidence["findings"][0]["verdict"] = "proven"


@pytest.mark.parametrize("change", [drop, add, retype, invent])
def test_a_missing_unknown_or_mistyped_key_is_refused(evidence, change):
    """Programs that read the evidence can rely on the schema."""
    changed = copy.deepcopy(evidence)
    change(changed)
    with pytest.raises(ValidationError):
        Evidence.model_validate_json(json.dumps(changed))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, evidence_schema())


def test_the_schema_requires_every_key_of_the_evidence(evidence):
    """Every key of the evidence is declared and required."""
    assert set(evidence_schema()["required"]) == set(evidence)
