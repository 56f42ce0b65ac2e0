"""Sections on how the numbers were made, from which files, with which software, and how to reproduce them."""

import json

from markupsafe import Markup

from raysweep.evidence.evidence_schema import Evidence
from raysweep.report.labels import confidence_level, metric_name
from raysweep.report.layout import Block, Folded, ReportSection, paragraph
from raysweep.report.tables import Cell, Column, Table, words

Named = tuple[str, str]
_METHOD = Markup("""<dl class="terms">
<dt>Scores</dt><dd>Surprise (in nats) and tokens are summed per document and kind of mask ({}), and divided once, at \
the end.</dd>
<dt>Intervals</dt><dd>{} BCa bootstrap intervals from {:,} resamples of {}, the same resamples for all models \
(paired). With few {}, intervals are widened by Student's t; several seeds add the spread between trainings. \
With one seed, an interval does not say how another training of the same model would turn out.</dd>
<dt>Verdicts</dt><dd>A claim is tested against every other kind of model (intersection–union test); the levels' \
p-values are Holm-corrected. “Overall” is the geometric mean of the tested levels' ratios, with equal weights. Levels \
with fewer than {} are not tested.</dd>
</dl>""")


def method_section(evidence: Evidence) -> ReportSection:
    """Explain scores, intervals and verdicts in a few sentences."""
    settings = evidence.settings
    units = f"{settings.clusters}s"
    text = _METHOD.format(
        metric_name(evidence),
        confidence_level(evidence),
        settings.resamples,
        "learners with all their documents" if units == "learners" else units,
        units,
        f"{settings.min_clusters} test documents"
        if units == "documents"
        else f"{settings.min_clusters} {units} in the test split",
    )
    return ReportSection("method", "How the numbers were made", [text])


def reproduction_section(evidence: Evidence) -> ReportSection:
    """Show the command, seed, software, input files and configuration."""
    run, inputs = evidence.run, evidence.inputs
    code = Markup("<pre><code>{}</code></pre>")
    seed = paragraph(
        "Seed {}{}. Everything on this page is in <code>evidence.json</code>; the tables are in <code>tables/</code> "
        "as CSV, and as TeX those that a page can hold.",
        evidence.settings.seed,
        Markup(", profile <code>{}</code>").format(run.profile) if run.profile else "",
    )
    digest = paragraph(
        'Everything was computed from {} files, whose digest is <code class="digest">{}</code>. <code>raysweep '
        "bundle</code> makes a zip of this run without the learners' texts; <code>raysweep verify</code> recomputes "
        "everything from that zip, and must print the same digest.",
        len(inputs.files),
        inputs.digest,
    )
    blocks: list[Block] = [code.format(run.command)] if run.command else []
    blocks += [seed, digest]
    blocks += [Folded("The software", _versions(evidence)), Folded("The files", _inputs(evidence))]
    blocks.append(Folded("The resolved configuration", code.format(config_text(evidence))))
    return ReportSection("reproduce", "How to reproduce this", blocks)


def config_text(evidence: Evidence) -> str:
    """Return the resolved configuration as JSON."""
    return json.dumps(evidence.config, indent=2, ensure_ascii=False)


def _versions(evidence: Evidence) -> Table[Named]:
    run = evidence.run
    versions = {"raysweep": evidence.raysweep, "Python": run.python, **run.libraries, "System": run.platform}
    versions["Start (digest of its content)"] = run.start_digest
    return Table[Named](
        "versions",
        "Software of the run",
        [(name, version) for name, version in versions.items() if version],
        words("What", "what", lambda row: row[0]),
        words("Version", "version", lambda row: row[1]),
    )


def _inputs(evidence: Evidence) -> Table[Named]:
    """List the files that everything was computed from."""

    def digest(row: Named) -> Cell:
        return Cell(text=f"{row[1][:16]}…", values=(row[1],))

    return Table[Named](
        "inputs",
        "The files that the report was computed from, with their SHA-256 (of tables, the SHA-256 of their values)",
        list(evidence.inputs.files.items()),
        words("File", "file", lambda row: row[0]),
        Column("Digest", ("sha256",), digest, is_number=False, value=lambda row: row[1]),
    )
