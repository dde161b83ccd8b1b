"""The loss as a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from finetune.pretrain.loss_curve import LOSS_FILE, MAX_POINTS, loss_svg, write_loss_curve
from server.lm.errors import UserError

LOG = [{"step": n, "tokens": 4096 * n, "seconds": 2.0 * n, "rate": 1.0, "loss": 9 - n / 5000} for n in range(1, 20_001)]


def test_the_same_log_gives_the_same_bytes():
    assert loss_svg(LOG) == loss_svg(LOG)
    assert loss_svg(LOG) != loss_svg(LOG[:-500])
    assert b"date" not in loss_svg(LOG).lower().replace(b"updated", b"")


@pytest.mark.parametrize("n_entries", [0, 1, 2, MAX_POINTS + 1, 20_000])
def test_it_is_a_small_picture_whatever_the_log(n_entries):
    picture = loss_svg(LOG[:n_entries])
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert b"million tokens" in picture
    assert len(picture) < 60_000


def test_it_is_written_whole_or_said_in_one_sentence(tmp_path: Path):
    write_loss_curve(tmp_path, LOG)
    assert [path.name for path in tmp_path.iterdir()] == [LOSS_FILE]
    with pytest.raises(UserError, match="cannot write"):
        write_loss_curve(tmp_path / "none", LOG)
