"""A corpus of synthetic speech: random sentences in many languages and voices, by eSpeak NG, Flite and Festival.

Clip ``index`` of a corpus is a function of the seed, the index, the languages and the engines alone: neither the number
of processes, nor an interruption, nor a longer corpus changes it. What it holds is drawn in three steps: who speaks
what (:mod:`plan`, :mod:`text`), the sound of the engine (:mod:`engines`), and the room, noise and level that are laid
over it (:mod:`room`). :mod:`clips` makes one clip so, :mod:`make` the whole, :mod:`manifest` describes it.

Splits, so that held-out means held out:

* ``train``: training voices (:mod:`voices`) in the training languages;
* ``validation``: the same voices and languages, other clips;
* ``heldout-voice``: voices that are never in ``train``, in the training languages;
* ``heldout-language``: voices of ``train`` in held-out languages, which are never in ``train``.

All variants of eSpeak NG share one synthesiser and its phoneme data: a held-out variant has another vocal tract, pitch
and voice source, not other recordings. A held-out speaker of Flite was never heard at all. Festival's voices, each
built from the recordings of one speaker, are in ``train`` and ``validation`` only; so what is held out is the same
with Festival and without it.
"""

RATE = 24_000  # Hz, of every clip
