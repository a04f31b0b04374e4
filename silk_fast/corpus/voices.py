"""Who speaks in a corpus: languages, voices, which of them are held out, and the Debian packages that hold them."""

HELDOUT_LANGUAGES = ("pl", "sv")

# fmt: off
DIALECTS = {  # language: eSpeak NG's voices for it
    "de": ("de",), "en": ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029"), "es": ("es", "es-419"),
    "fi": ("fi",), "fr": ("fr-fr", "fr-be"), "it": ("it",), "nl": ("nl",), "pl": ("pl",), "pt": ("pt", "pt-br"),
    "sv": ("sv",),
}
TRAIN_VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f3", "f5", "klatt", "klatt2", "klatt4", "adam", "Alex", "Alicia",
    "Andy", "Annie", "Diogo", "Hugo", "Gene", "Jacky", "Lee", "Marco", "Mike", "Storm", "anika", "antonio", "aunty",
    "benjamin", "boris", "croak", "david", "ed", "edward", "grandma", "gustave", "iven", "john", "kaukovalta",
    "marcelo", "max", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph",
    "travis", "whisper", "whisperf", "zac",
)
HELDOUT_VARIANTS = ("m6", "f4", "Andrea", "Denis", "Mario", "belinda", "grandpa", "victor")
# fmt: on
TRAIN_SPEAKERS = ("kal16", "rms", "slt")  # of Flite; English only
HELDOUT_SPEAKERS = ("awb",)
FESTIVAL_VOICES = {  # voice: language and charset of its text, which need not be its own: the speaker is what counts
    "ked_diphone": ("en", "ascii"),
    "suo_fi_lj_diphone": ("fi", "latin-1"),
    "hy_fi_mv_diphone": ("fi", "latin-1"),
    "lp_diphone": ("it", "latin-1"),
    "pc_diphone": ("it", "latin-1"),
    "upc_ca_ona_hts": ("es", "ascii"),
    "czech_dita": ("it", "ascii"),
    "czech_krb": ("it", "ascii"),
    "czech_machac": ("es", "ascii"),
    "czech_ph": ("es", "ascii"),
    "msu_ru_nsh_clunits": ("it", "ascii"),
}

PACKAGES = {
    "espeak-ng": "espeak-ng",
    "flite": "flite",
    "festival": (
        "festival festvox-kdlpc16k festvox-suopuhe-lj festvox-suopuhe-mv festvox-italp16k festvox-itapc16k "
        "festvox-ca-ona-hts festvox-czech-dita festvox-czech-krb festvox-czech-machac festvox-czech-ph festvox-ru"
    ),
}
"""Engine to Debian's packages of it and of its voices."""

LICENCE = (
    "The sound was made by eSpeak NG and, where the manifest says so, Flite or Festival, from words of the lists in "
    "silk_fast (MIT licence) in random order. eSpeak NG is a program under the GNU GPL, version 3 or later; no part of "
    "the program is in this corpus, though some consonants are played from short samples in its data. That licence "
    "covers the output of a program only if the output itself is a work based on the program (its section 2). Flite is "
    "under a permissive, BSD-like licence of Carnegie Mellon University; its voices were built from recordings of "
    "speakers. Festival's voices join pieces of recordings of speakers, or are models of them; the data of the Finnish "
    "ones and of the Catalan one are under the GNU LGPL, of the Italian and Czech ones under the GNU GPL, of the "
    "American and the Russian one under BSD-like licences. These are facts for whoever decides, not legal advice."
)
