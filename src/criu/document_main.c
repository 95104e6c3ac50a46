/* SPDX-License-Identifier: Apache-2.0 */

/* Prints docs/troubleshooting.md; run by scripts/generate-docs, never installed. */

#include <stdio.h>

#include "criu/digest.h"

int main(void) {
        return digest_document(stdout) < 0 ? 1 : 0;
}
