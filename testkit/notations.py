"""Whether a text has a secret, in any notation."""

import base64


def holds(text, secret):
    """Whether a text has the secret in hexadecimal, or all of its whole characters in base64, at any position."""
    if secret.hex() in text.lower():
        return True
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            inner = encode(bytes(shift) + secret).decode().rstrip("=")
            if inner[-(-8 * shift // 6) : -1] in text:
                return True
    return False
