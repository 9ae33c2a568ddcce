/**
 * The alphabet of byte-level BPE (GPT-2): each byte is written as one printable character, so that a vocabulary of byte strings fits
 * into JSON. Printable Latin-1 bytes stand for themselves, the rest are U+0100 and up in order.
 */
const isPrintable = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;

const codeOfByte = new Uint16Array(256);
const byteOfCode = new Int16Array(0x200).fill(-1);
let unprintable = 0;
for (let byte = 0; byte < 256; byte++) {
  const code = isPrintable(byte) ? byte : 0x100 + unprintable++;
  codeOfByte[byte] = code;
  byteOfCode[code] = byte;
}

export const charOfByte = (byte: number): string => String.fromCharCode(codeOfByte[byte] ?? 0);

/** Bytes that a vocabulary entry stands for; null where it holds a character outside the alphabet. */
export function bytesOfEntry(entry: string): Uint8Array | null {
  const bytes = new Uint8Array(entry.length);
  for (let index = 0; index < entry.length; index++) {
    const byte = byteOfCode[entry.charCodeAt(index)] ?? -1;
    if (byte < 0) return null;
    bytes[index] = byte;
  }
  return bytes;
}
