import pytest
import torch

from vowelflow import latent
from vowelflow.base import InputError
from vowelflow.latent import Code, random_code
from vowelstudy import pairs as pair_of


@pytest.fixture
def code():
    return Code(random_code(6, 400), 100)


def test_direction_is_the_difference_of_means(code):
    d = latent.direction(source=code[[0, 1]], target=code[[2, 3, 4]])
    assert torch.allclose(d, code.flat[2:5].mean(0) - code.flat[:2].mean(0)) and d.shape == (1, 400)
    pictures = torch.rand(4, 1, 8, 8)
    assert latent.direction(pictures[:2], pictures[2:]).shape == (1, 64)
    with pytest.raises(InputError, match="not 0 and 3"):
        latent.direction(code[[]], code[[1, 2, 3]])


def test_paths_keep_their_ends(code):
    for path in (latent.line(code[0], code[1], 5), latent.great_circle(code[0], code[1], 5)):
        assert torch.allclose(path[[0, -1]], code.flat[:2], atol=1e-4) and path.shape == (5, 400)
    assert torch.allclose(latent.line(code[0], code[1], 3)[1], code.flat[:2].mean(0))


def test_a_line_sags_and_a_great_circle_does_not():
    a, b = random_code(2, 80_000)[:, None]
    energy = [path[1].square().mean().item() for path in (latent.line(a, b, 3), latent.great_circle(a, b, 3))]
    assert energy == pytest.approx([0.5, 1.0], abs=0.02)
    assert torch.allclose(latent.great_circle(a, a, 3), a.expand(3, -1))


def test_a_random_direction_has_the_norm_and_no_likeness():
    like = 3 * random_code(1, 10_000)
    drawn = latent.random_direction(like, seed=5)
    assert drawn.norm() == pytest.approx(like.norm().item(), rel=1e-5)
    assert abs(torch.cosine_similarity(drawn, like).item()) < 0.05


@pytest.mark.parametrize("factor, same", [("phone", "speaker"), ("sex", "phone"), ("speaker", "sex")])
def test_matched_pairs_differ_in_one_factor(klatt, factor, same):
    tokens = klatt.filter(phone=["aa", "ae"])
    pairs = pair_of.matched_pairs(tokens, factor, 5, seed=1)
    first, second = (tokens.table.iloc[[pair[place] for pair in pairs]].reset_index() for place in (0, 1))
    assert (first[factor] < second[factor]).all() and (first[same] == second[same]).all()
    used = [row for pair in pairs for row in pair]
    assert 1 <= len(pairs) <= 5 and len(set(used)) == len(used)
    assert pairs == pair_of.matched_pairs(tokens, factor, 5, seed=1)


def test_pairs_that_are_not_there_are_refused(klatt):
    with pytest.raises(InputError, match="differ in phone alone"):
        pair_of.matched_pairs(klatt.filter(phone="aa"), "phone", 3)


def test_speaker_pairs_are_of_one_sex(klatt):
    pairs = pair_of.speaker_pairs(klatt, 50)
    assert len(pairs) == 12 and all(a[0] == b[0] and a != b for a, b in pairs)
    assert len(pair_of.speaker_pairs(klatt, 4)) == 4
    with pytest.raises(InputError, match="no two speakers of one sex"):
        pair_of.speaker_pairs(klatt.filter(speaker="f00"), 4)


@pytest.mark.parametrize("spoilt", ["source", "target"])
def test_a_direction_of_what_is_not_finite_is_refused(spoilt):
    ends = {"source": torch.zeros(2, 3), "target": torch.ones(2, 3)}
    ends[spoilt][0, 1] = float("inf")
    with pytest.raises(InputError, match="finite"):
        latent.direction(**ends)
