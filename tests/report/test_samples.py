"""Learners' words are on the page only if requested, and only as text."""

from raysweep.report.writing import write_report
from raysweep.storage.run_folder import samples_beside
from tests.simulated_run import make_config, make_run, write_json

HOSTILE = "<script>alert('text')</script>"


def run_with_samples(root, **report):
    config = make_config(("A1", "C1"), report={"resamples": 100, **report})
    folder, config, trials = make_run(root, config)
    for model in trials:
        question = {
            "context": [f"I {HOSTILE} ", " home,\nthen ", "."],
            "kinds": ["word", "ngram"],
            "references": ["zanzibar", "I sleep & eat"],
        }
        samples = [{**question, "level": level, "answers": [f"{model} said", HOSTILE]} for level in ("A1", "C1")]
        write_json(samples_beside(folder.cells(model)), samples)
    return folder, config, trials


def test_samples_are_shown_only_on_request(tmp_path):
    """The texts belong to the learners, and a report may be sent anywhere."""
    folder, config, trials = run_with_samples(tmp_path / "quiet")
    write_report(folder, config, trials)
    assert "zanzibar" not in folder.report_html.read_text()
    assert "holds no learner's text" in folder.report_html.read_text()
    folder, config, trials = run_with_samples(tmp_path / "shown", show_texts=True)
    write_report(folder, config, trials)
    page = folder.report_html.read_text()
    assert page.count("zanzibar") == 2
    assert "holds no learner's text" not in page
    for path in (folder.evidence, folder.report_markdown, *folder.tables.iterdir()):
        assert "zanzibar" not in path.read_text(), path.name


def test_a_script_in_a_sample_is_escaped(tmp_path):
    """This holds for the text, the learner's words and a model's answer."""
    folder, config, trials = run_with_samples(tmp_path, show_texts=True)
    write_report(folder, config, trials)
    page = folder.report_html.read_text()
    assert "<script" not in page
    # With two levels: once in the text, and once for the general, the specialised and the fine-tuned model each.
    assert page.count("&lt;script&gt;alert(&#39;text&#39;)") == 2 * (1 + 3)


def test_each_blank_shows_the_learners_words_beside_the_answers_of_every_kind_of_model(tmp_path):
    """Readers can compare three answers to the same blank."""
    folder, config, trials = run_with_samples(tmp_path, show_texts=True)
    write_report(folder, config, trials)
    page = folder.report_html.read_text()
    assert "<mark>[1 word]</mark>" in page
    row = page.split('<th scope="row">[1 word]</th>')[1].split("</tr>")[0]
    cells = [cell.split("<")[0] for cell in row.split('<td class="wording">')[1:]]
    assert cells == ["zanzibar", "all said", "A1 said", "all-A1 said"]


def test_a_run_without_saved_samples_shows_none(tmp_path):
    """Missing samples are no error."""
    folder, config, trials = make_run(tmp_path, make_config(("A1",), transfer=False, report={"show_texts": True}))
    write_report(folder, config, trials)
    assert 'id="samples"' not in folder.report_html.read_text()
