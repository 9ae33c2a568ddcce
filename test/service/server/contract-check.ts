import assert from 'node:assert/strict';
import { Ajv2020 as JsonSchema } from 'ajv/dist/2020.js';
import { Contract } from '../../../src/server/contract.js';

/** Holds every answer that a test sees against openapi.yaml. */

const { document, operations } = Contract.load();
const schemas = new JsonSchema({ strict: false, validateSchema: false, allErrors: true });
schemas.addSchema(document, 'contract');

interface Media {
  readonly content?: Readonly<Record<string, { readonly schema: object }>>;
  readonly $ref?: string;
}

const operationOf = (method: string, path: string) =>
  operations.find(
    (operation) =>
      operation.method === method &&
      new RegExp(`^${operation.path.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path.split('?')[0]!),
  );

const absolute = (schema: object): object =>
  JSON.parse(JSON.stringify(schema).replaceAll('"#/components', '"contract#/components'));

function mustMatch(schema: object, value: unknown, what: string): void {
  const validate = schemas.compile(absolute(schema));
  assert.ok(validate(value), `${what} breaks the contract: ${schemas.errorsText(validate.errors)}`);
}

/** A path that is not in the contract must answer with the error shape; one that is, with what it documents for that status. */
export function checkAnswer(
  method: string,
  path: string,
  status: number,
  contentType: string,
  value: unknown,
): void {
  const operation = operationOf(method, path);
  const what = `${method} ${path} ${status}`;
  if (operation === undefined) {
    checkNamed('Error', value, what);
    return;
  }
  const responses = document.paths[operation.path]![method.toLowerCase()]!.responses as Readonly<
    Record<string, Media>
  >;
  const documented = responses[status] ?? responses.default;
  assert.ok(documented, `${what} is not documented`);
  const shared = (document.components as unknown as { responses: Record<string, Media> }).responses;
  const { content } =
    documented.$ref === undefined ? documented : shared[documented.$ref.split('/').at(-1)!]!;
  const media = content?.[contentType.split(';')[0]!];
  assert.ok(media, `${what} answers ${contentType}, which is not documented`);
  mustMatch(media.schema, value, what);
}

export const checkNamed = (name: string, value: unknown, what: string): void =>
  mustMatch({ $ref: `contract#/components/schemas/${name}` }, value, what);

export { operations };
