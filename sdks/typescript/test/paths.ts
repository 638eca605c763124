import { fileURLToPath } from 'node:url';

/** The package's folder and the repository's; tests run from build/test. */
export const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));
export const REPOSITORY = fileURLToPath(new URL('../../../../', import.meta.url));
