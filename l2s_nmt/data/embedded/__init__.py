"""A parallel corpus of any size without any foreign text: two invented languages and a grammar for both.

A sentence starts as a meaning, a tree that belongs to neither language (`meaning`), drawn by a probabilistic
grammar (`grammar`). It is then said in Vorsk (code vo, `source`), whose verbs stand second or last, and in Tamari
(code ta, `target`), whose verbs follow their subject and agree with it. Words are coined from the sounds of each
language (`phonotactics`, `lexicon`); articles, pronouns and the like are written out (`function_words`). How hard
all this is to learn is set in one place (`difficulty`).

    >>> source, references = next(generate("train", 1, start=423074, references=2))
    >>> print(source, *references, sep="\\n")
    Var nepskelsreist, han hov fro Belelda pinget, zögzonget vin gutpöser gur.
    Ka luelche di shenche kon oru chiashero desha Belelda ribusora kani bokipan.
    Ka luelche di shenche kon chiashero desha Belelda ribusora kani bokipan.

With English words for the invented ones:

    Var  nepskels-reist, han   hov  fro   Belelda  pinget,  zögzonget  vin  gutpöser  gur.
    the  garden-keeper,  whom  he   from  Belelda  knows,   sells-     the  apples    (sells-)

    Ka   luelche  di  shenche  kon   oru  chiashero  desha  Belelda  ribusora  kani  bokipan.
    the  keeper   of  garden   whom  he   knows      from   Belelda  sells     the   apples

The last source word, "gur", is a part of the verb and decides three words before it. Without "gur", "zögzonget" is
"nukuenra" instead of "ribusora"; and since that verb belongs to another field, "gutpöser" then are "vuelunadan", and
"nepskel" is "ruero" or one of its synonyms. The ending of "ribusora" agrees with its subject "luelche", across a
relative clause whose subject has another gender. "fro" is "desha" because a place follows. The compound becomes a
phrase in reverse order, and the second reference leaves out a pronoun.
"""

from l2s_nmt.data.embedded.corpus import generate

__all__ = ["generate"]
