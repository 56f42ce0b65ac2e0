"""Answers to prompts: batches, caches, seeds, and what happens when there is no room left."""

from types import SimpleNamespace

import pytest
import torch

from raysweep.errors import InputError
from raysweep.evaluation.decoding import ANSWER_LIMITS, Prompt, TokenBatch, answer_prompts
from raysweep.evaluation.token_sampling import GREEDY, Sampling
from raysweep.masking.vocabulary import Kind
from tests.gpt2_tokens import END_OF_INFILL, FIRST_BLANK, START_OF_INFILL, VOCABULARY_SIZE, document_tokenizer

FREE = Sampling(top_p=None)


class Script(torch.nn.Module):
    """A model that knows what comes after each token, and by how many nats it likes it above the rest.

    For answers that must be known beforehand; it remembers nothing, so the cache stays empty.
    """

    def __init__(self, follows, positions=64):
        super().__init__()
        self.follows = follows
        self.config = SimpleNamespace(n_positions=positions, num_hidden_layers=1)
        self.anything = torch.nn.Parameter(torch.zeros(()))
        self.longest = 0

    def forward(self, input_ids, position_ids, **_):
        self.longest = max(self.longest, int(position_ids.max()) + 1)
        logits = torch.zeros(len(input_ids), 1, VOCABULARY_SIZE)
        for row, token in enumerate(input_ids[:, -1].tolist()):
            for following, nats in self.follows.get(token, {}).items():
                logits[row, 0, following] = nats
        return SimpleNamespace(logits=logits)


@pytest.fixture
def script(monkeypatch):
    """Scripts need no cache; ours would ask for a real model's layers."""
    empty = SimpleNamespace(batch_select_indices=lambda _: None)
    monkeypatch.setattr("raysweep.evaluation.decoding.DynamicCache", lambda config: empty)
    return Script


def prompt(text, *kinds):
    return Prompt(
        ids=[*document_tokenizer().encode(text).ids, *(FIRST_BLANK + k for k in kinds), START_OF_INFILL], kinds=kinds
    )


def plain(answers):
    return [(answer.ids, answer.finished) for answer in answers]


def test_decoding_with_a_cache_equals_decoding_without(model):
    """Padded on the left, with rows taken out, token by token: a row's logits are those of its whole text."""
    texts = [prompt("I like").ids, prompt("Hello! How are you today? I am").ids, prompt("It").ids]
    with torch.inference_mode():
        batch = TokenBatch(model, texts)
        rows = [list(text) for text in texts]
        for places, tokens in [([0, 1, 2], (5, 6, 7)), ([2, 1, 1], (8, 9, 10)), ([0, 2], (11, 12))]:
            batch.keep(torch.tensor(places))
            batch.step(tokens)
            rows = [[*rows[place], token] for place, token in zip(places, tokens, strict=True)]
            anew = torch.stack([model(torch.tensor([row])).logits[0, -1] for row in rows])
            torch.testing.assert_close(batch.logits_RV, anew, atol=1e-5, rtol=0)
            # The yardstick must be able to see a wrong position, or a look at the padding.
            assert (
                anew - torch.stack([model(torch.tensor([[0, *row]])).logits[0, -1] for row in rows])
            ).abs().max() > 0.01


def test_answers_depend_on_the_seed(model):
    """Samples also differ from each other."""
    ask = [prompt("I like", Kind.NGRAM)]
    first, again = (answer_prompts(model, ask, samples=3, sampling=FREE, seed=1, max_answer_tokens=5) for _ in range(2))
    other = answer_prompts(model, ask, samples=3, sampling=FREE, seed=2, max_answer_tokens=5)
    assert first == again != other
    assert len({answers[0].ids for answers in first[0]}) == 3


def test_the_first_three_of_five_samples_equal_three_samples(script):
    """Whatever ends first: each sample has its own random numbers, and its own place."""
    model = script({START_OF_INFILL: {5: 9.0, 6: 9.0}, 5: {END_OF_INFILL: 11.0, 5: 11.0}, 6: {END_OF_INFILL: 12.0}})
    ask = [prompt("", Kind.WORD, Kind.NGRAM)]
    three, five = (answer_prompts(model, ask, samples=n, sampling=Sampling(top_p=0.9))[0] for n in (3, 5))
    assert five[:3] == three
    assert len({tuple(len(answer.ids) for answer in answers) for answers in five}) > 1, "they end at different times"


def test_answers_are_returned_in_the_order_of_blanks(script):
    """Each answer ends with the end token, which is not part of it."""
    model = script(
        {
            START_OF_INFILL: {7: 9.0},
            7: {END_OF_INFILL: 9.0},
            END_OF_INFILL: {8: 9.0},
            8: {9: 9.0},
            9: {END_OF_INFILL: 9.0},
        }
    )
    ((answers,),) = answer_prompts(model, [prompt("a", Kind.WORD, Kind.NGRAM)], sampling=GREEDY)
    assert plain(answers) == [((7,), True), ((8, 9), True)]


def test_an_overlong_answer_is_cut_and_marked_unfinished(script):
    """The next blank still gets its turn: the model is shown the end that it did not write."""
    model = script({START_OF_INFILL: {7: 9.0}, 7: {7: 9.0}, END_OF_INFILL: {8: 9.0}, 8: {END_OF_INFILL: 9.0}})
    ((answers,),) = answer_prompts(model, [prompt("a", Kind.WORD, Kind.WORD)], sampling=GREEDY)
    assert plain(answers) == [((7,) * ANSWER_LIMITS[Kind.WORD], False), ((8,), True)]


def test_an_answer_of_exactly_max_tokens_is_finished(script):
    """The limit counts tokens of text; the model may still say that it has ended."""
    model = script({START_OF_INFILL: {7: 9.0}, 7: {8: 9.0}, 8: {END_OF_INFILL: 9.0}})
    ((answers,),) = answer_prompts(model, [prompt("a", Kind.WORD)], sampling=GREEDY, max_answer_tokens=2)
    assert plain(answers) == [((7, 8), True)]


def test_answers_beyond_the_models_positions_are_marked_unfinished(script):
    """The tokens so far are returned, and an unfinished answer does not pass for an empty one."""
    model = script({START_OF_INFILL: {7: 9.0}, 7: {7: 9.0}}, positions=8)
    asked = prompt("a b c", Kind.WORD, Kind.WORD)  # 6 tokens: 2 more can be shown, a third be answered
    ((answers,),) = answer_prompts(model, [asked], sampling=GREEDY)
    assert plain(answers) == [((7, 7, 7), False), ((), False)]
    assert model.longest == 8


def test_a_prompt_that_fills_the_model_gets_one_token(script):
    """The last position still predicts a token."""
    model = script({START_OF_INFILL: {7: 9.0}}, positions=5)
    ((answers,),) = answer_prompts(model, [prompt("a b c", Kind.WORD)], sampling=GREEDY)
    assert plain(answers) == [((7,), False)]


def test_a_prompt_longer_than_the_model_is_refused_with_both_numbers(model):
    """Cutting it silently would answer another text."""
    with pytest.raises(InputError, match=r"found 102 tokens; the model has 64 positions\. Shorten it by 38 tokens"):
        answer_prompts(model, [prompt("a" + " a" * 99, Kind.WORD)], sampling=GREEDY)


def test_special_tokens_never_occur_in_answers(script):
    """However much the model likes them: only the end of an answer may come, and not as its first token."""
    specials = dict.fromkeys(range(50256, VOCABULARY_SIZE), 50.0)
    model = script({START_OF_INFILL: {**specials, 7: 20.0}, 7: {**specials, END_OF_INFILL: 40.0}})
    samples = answer_prompts(model, [prompt("a", Kind.WORD)], samples=4, sampling=FREE)
    assert [plain(answers) for answers in samples[0]] == [[((7,), True)]] * 4


def test_an_empty_list_of_prompts_gives_no_answers(model):
    """A level without questions is not an error."""
    assert answer_prompts(model, [], sampling=GREEDY) == []
