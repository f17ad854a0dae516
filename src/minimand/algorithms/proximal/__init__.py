"""Methods that ask a prox, one short file each: prox(v, s) minimizes g(p) + |p - v|^2 / (2 s) over p."""
