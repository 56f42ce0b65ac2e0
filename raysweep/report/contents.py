"""Lists the report's sections, in one place."""

from collections.abc import Sequence

from raysweep.evidence.evidence_schema import Evidence
from raysweep.report.infill_samples import Sample
from raysweep.report.layout import ReportSection
from raysweep.report.sections.between_models import between_section
from raysweep.report.sections.beyond_corpus import beyond_section
from raysweep.report.sections.choice_variations import sensitivity_section
from raysweep.report.sections.classified_texts import classification_section
from raysweep.report.sections.controls_and_leaks import guard_section
from raysweep.report.sections.corpus_facts import data_section
from raysweep.report.sections.gains import gain_section, transfer_section
from raysweep.report.sections.generated_answers import generation_section, sample_section
from raysweep.report.sections.model_matrix import matrix_section
from raysweep.report.sections.new_learners import new_learner_section
from raysweep.report.sections.next_steps import next_section
from raysweep.report.sections.provenance import method_section, reproduction_section
from raysweep.report.sections.serving_costs import cost_section
from raysweep.report.sections.subgroups import subgroup_section
from raysweep.report.sections.training_runs import training_section
from raysweep.report.sections.verdicts import verdict_section


def report_sections(evidence: Evidence, samples: Sequence[Sample] = ()) -> list[ReportSection]:
    return [
        verdict_section(evidence),
        matrix_section(evidence),
        gain_section(evidence),
        transfer_section(evidence),
        between_section(evidence),
        beyond_section(evidence),
        guard_section(evidence),
        sensitivity_section(evidence),
        subgroup_section(evidence),
        new_learner_section(evidence),
        classification_section(evidence),
        training_section(evidence),
        cost_section(evidence),
        generation_section(evidence),
        sample_section(samples),
        data_section(evidence),
        next_section(evidence),
        method_section(evidence),
        reproduction_section(evidence),
    ]
