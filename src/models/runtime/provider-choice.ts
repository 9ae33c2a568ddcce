import { AppError } from '../../core/errors.js';
import type { Provider } from './session.js';

/** What a look at the machine found. The order of the kinds is the order in which they are looked for. */
export type CudaFinding =
  | { readonly kind: 'library_missing'; readonly path: string }
  | { readonly kind: 'driver_missing'; readonly file: string }
  | {
      readonly kind: 'device_missing';
      readonly deviceId: number;
      readonly devices: number;
      readonly reason: string;
    }
  /** All is there, but ONNX Runtime could not load its provider: most often cuDNN or cuBLAS is absent. */
  | { readonly kind: 'provider_failed'; readonly reason: string }
  | { readonly kind: 'ready'; readonly deviceId: number; readonly name: string };

type Absence = Exclude<CudaFinding, { kind: 'ready' }>;

const sentences: { readonly [K in Absence['kind']]: (finding: Extract<Absence, { kind: K }>) => string } = {
  library_missing: ({ path }) => `the CUDA provider library is missing: ${path} is not there`,
  driver_missing: ({ file }) => `the NVIDIA driver is missing: ${file} cannot be loaded`,
  device_missing: ({ deviceId, devices, reason }) =>
    devices === 0
      ? `there is no CUDA device: ${reason}`
      : `there is no CUDA device ${deviceId}: the driver counts ${devices}, from 0 on`,
  provider_failed: ({ reason }) => `ONNX Runtime could not load its CUDA provider: ${reason}`,
};

/** Why CUDA cannot be used, as half a sentence. */
export const explain = (finding: Absence): string =>
  (sentences[finding.kind] as (finding: Absence) => string)(finding);

export interface ProviderChoice {
  readonly provider: Provider;
  /** One sentence for the log. */
  readonly reason: string;
}

/**
 * @param findCuda Looks at the machine; not called where the CPU was asked for.
 * @throws AppError `provider_unavailable` where CUDA was asked for and cannot be used
 */
export function chooseProvider(requested: Provider | 'auto', findCuda: () => CudaFinding): ProviderChoice {
  if (requested === 'cpu') return { provider: 'cpu', reason: 'Running on the CPU, as asked.' };
  const finding = findCuda();
  if (finding.kind === 'ready') {
    return { provider: 'cuda', reason: `Running on CUDA device ${finding.deviceId} (${finding.name}).` };
  }
  if (requested === 'auto') return { provider: 'cpu', reason: `Running on the CPU: ${explain(finding)}.` };
  throw new AppError('provider_unavailable', `PROVIDER=cuda cannot be served: ${explain(finding)}.`, {
    param: 'PROVIDER',
  });
}
