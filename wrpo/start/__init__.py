"""`wrpo init`: a first recipe of one's own, from flags and questions."""
