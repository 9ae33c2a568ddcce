import { resolve } from 'node:path';
import type { Verdict } from '../models/verify/verdict.js';
import { printJson, printTable } from './output.js';

/** `instructd verify`: exit code 0 only where every quantity is within its bound. */
export async function verify(
  directory: string,
  { json = false }: { readonly json?: boolean },
): Promise<void> {
  const { verifyDirectory } = await import('../models/verify/verify-directory.js');
  const { verifyTraining } = await import('../train/verification/verify-training.js');
  const verdicts: Verdict[] = [];
  for await (const verdict of verifyDirectory(resolve(directory))) verdicts.push(verdict);
  verdicts.push(...verifyTraining(resolve(directory)));
  if (json) printJson(verdicts);
  else
    printTable(
      ['QUANTITY', 'LARGEST ERROR', 'BOUND', ''],
      verdicts.map((verdict) =>
        verdict.kind === 'checked'
          ? [verdict.quantity, precise(verdict.error), precise(verdict.bound), verdict.ok ? 'ok' : 'FAILS']
          : [verdict.quantity, '-', '-', `not checked: ${verdict.reason}`],
      ),
    );
  if (verdicts.some((verdict) => verdict.kind === 'checked' && !verdict.ok)) process.exitCode = 1;
}

const precise = (value: number): string => (Number.isInteger(value) ? String(value) : value.toExponential(1));
