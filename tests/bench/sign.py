#!/usr/bin/env python3
"""Writes request heads, each signed with a nonce of its own, for wrk to send (RFC 9421, docs/protocol.md).

sign.py KEY KEYID PATH COUNT [HEADER: VALUE]...   one request a line: Signature-Input, a tab, Signature
"""

import base64
import hashlib
import hmac
import os
import sys
import time


def main() -> None:
    key_text, keyid, path, count = sys.argv[1:5]
    key = hmac.new(base64.urlsafe_b64decode(key_text + "="), digestmod=hashlib.sha256)
    created = int(time.time())
    write = sys.stdout.write
    for _ in range(int(count)):
        nonce = base64.urlsafe_b64encode(os.urandom(18)).decode()
        params = (
            f'("@method" "@path" "@query");created={created};nonce="{nonce}";'
            f'keyid="{keyid}";alg="hmac-sha256";tag="lockstep"'
        )
        mac = key.copy()
        mac.update(f'"@method": GET\n"@path": {path}\n"@query": ?\n"@signature-params": {params}'.encode())
        write(f"sig1={params}\tsig1=:{base64.b64encode(mac.digest()).decode()}:\n")


if __name__ == "__main__":
    main()
