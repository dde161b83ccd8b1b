from types import SimpleNamespace

import finetune.memorisation as m
from server.repository.secrets import scrub

FILES = {f"{n}.py": f"x = {n}\n" for n in range(12)} | {"a.md": "text\n"}


def test_every_canary_is_cut_by_the_filter_and_found_as_a_context():
    for seed in range(300):
        planted, canaries = m.plant(FILES, seed)
        assert len(canaries) == m.N_CANARIES
        for c in canaries:
            assert c.secret in planted[c.path] and c.secret not in scrub(planted[c.path]).text
            assert [f.secret for f in m.contexts(c.path, planted[c.path])] == [c.secret]
            assert c.secret not in repr(c)


def test_no_context_holds_an_earlier_secret():
    text = 'a = "AKIAABCDEFGHIJKLMNOP"\nb = "AKIAQRSTUVWXYZ234567"\n'
    found = m.contexts("a.py", text)
    assert len(found) == 2 and found[0].secret not in found[1].before


def test_what_comes_back_is_told(tiny_model, monkeypatch):
    context = m.SecretContext("a.py", 'key = "', "AKIAABCDEFGHIJKLMNOP")
    assert m.memorised(tiny_model, [], [context]) == []
    monkeypatch.setattr(m, "generate", lambda *a, **k: SimpleNamespace(text='AKIAABCDEFGHIJKLMNOP"'))
    assert m.memorised(tiny_model, [context], []) == [context]


def test_without_secrets_the_check_says_that_nothing_was_tested():
    assert "not tested" in m.said([], [])
