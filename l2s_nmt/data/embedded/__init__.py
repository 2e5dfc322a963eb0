"""temp"""

from l2s_nmt.data.embedded.corpus import generate as generate
