/**
 * The shape of src/, held: which folder may import which, who owns each package, and how large a file or function may grow. To add an
 * edge, change the table here in the same commit and say why there.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, posix } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** Folder (with its subfolders, unless they have a row) -> folders that it may import beside itself. `models` means the files at its top. */
const folders: Readonly<Record<string, readonly string[]>> = {
  core: [],
  'models/graph': ['core'],
  'models/runtime': ['core'],
  'models/tokenizer': ['core'],
  'models/checkpoint': ['core'],
  'models/transformer': ['core', 'models/graph', 'models/checkpoint'],
  'models/engine': ['core', 'models/graph', 'models/runtime', 'models/transformer'],
  'models/import': [
    'core',
    'models',
    'models/runtime',
    'models/tokenizer',
    'models/checkpoint',
    'models/transformer',
    'models/engine',
  ],
  'models/verify': [
    'core',
    'models',
    'models/runtime',
    'models/tokenizer',
    'models/checkpoint',
    'models/transformer',
    'models/engine',
  ],
  models: [
    'core',
    'models/import',
    'models/graph',
    'models/runtime',
    'models/tokenizer',
    'models/checkpoint',
    'models/transformer',
    'models/engine',
  ],
  world: ['core'],
  train: [
    'core',
    'world',
    'models',
    'models/verify',
    'models/graph',
    'models/runtime',
    'models/checkpoint',
    'models/tokenizer',
    'models/transformer',
    'models/engine',
  ],
  server: ['core', 'models'],
  // `serve` starts the server in this process; `models import` and `verify`, of training too, work without one. The rest speaks HTTP.
  cli: ['core', 'models', 'models/import', 'models/verify', 'server', 'train'],
};

/** Files that hold interfaces: any folder may import their types, and types only. */
const seams: ReadonlySet<string> = new Set([
  'models/engine/engine.ts',
  'models/runtime/session.ts',
  'models/tokenizer/tokenizer.ts',
]);

/** What the CLI may import of the server; all else goes over HTTP. */
const cliMayImport: ReadonlySet<string> = new Set(['server/main.ts', 'server/config.ts']);

/** Package -> the folder or file that alone may import it. Every dependency of package.json has a row. */
const packages: Readonly<Record<string, string>> = {
  '@fastify/cors': 'server',
  '@fastify/swagger': 'server',
  '@fastify/swagger-ui': 'server',
  '@fastify/websocket': 'server',
  '@huggingface/hub': 'models/import/hub-repository.ts',
  '@huggingface/jinja': 'models/tokenizer',
  ajv: 'server',
  'ajv-formats': 'server',
  commander: 'cli',
  fastify: 'server',
  koffi: 'models/runtime',
  'onnxruntime-node': 'models/runtime',
  'prom-client': 'server',
  tiktoken: 'models/tokenizer',
  ws: 'server',
  yaml: 'server',
};

const readsEnvironment = ['server/config.ts', 'cli'];

/** Names that a part's entry has everywhere. */
const entries: ReadonlySet<string> = new Set(['main.ts']);

const FILE_LINES = 300;
const FUNCTION_LINES = 50;
/** `file` or `file#function` -> why it may be longer. A row that is no longer needed fails. */
const mayBeLonger: Readonly<Record<string, string>> = {};

interface Import {
  readonly line: number;
  readonly specifier: string;
  /** Path under src/ of what is imported, null for a package. */
  readonly target: string | null;
  readonly typeOnly: boolean;
}

interface Source {
  readonly path: string;
  readonly lines: number;
  readonly imports: readonly Import[];
  readonly functions: readonly { readonly name: string; readonly line: number; readonly lines: number }[];
  /** Lines that read process.env. */
  readonly environment: readonly number[];
}

const isTypeOnly = (clause: ts.ImportClause | undefined): boolean =>
  clause !== undefined &&
  (clause.phaseModifier === ts.SyntaxKind.TypeKeyword ||
    (clause.name === undefined &&
      clause.namedBindings !== undefined &&
      ts.isNamedImports(clause.namedBindings) &&
      clause.namedBindings.elements.every((element) => element.isTypeOnly)));

const functionName = (node: ts.Node): string => {
  const named = node as { name?: ts.Node; parent: { name?: ts.Node } };
  return (named.name ?? named.parent.name)?.getText() ?? 'anonymous';
};

function parse(path: string): Source {
  const text = readFileSync(`${root}src/${path}`, 'utf8');
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const lineOf = (position: number) => file.getLineAndCharacterOfPosition(position).line + 1;
  const imports: Import[] = [];
  const functions: Source['functions'][number][] = [];
  const environment: number[] = [];

  const addImport = (node: ts.Node, specifier: string, typeOnly: boolean) => {
    const target = specifier.startsWith('.')
      ? posix.join(dirname(path), specifier).replace(/\.js$/, '.ts')
      : null;
    imports.push({ line: lineOf(node.getStart()), specifier, target, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier))
      addImport(node, node.moduleSpecifier.text, isTypeOnly(node.importClause));
    else if (ts.isExportDeclaration(node) && node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier))
      addImport(node, node.moduleSpecifier.text, node.isTypeOnly);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
      addImport(node, (node.argument.literal as ts.StringLiteral).text, true);
    else if (ts.isCallExpression(node)) {
      const dynamic =
        node.expression.kind === ts.SyntaxKind.ImportKeyword ||
        /^require(\.resolve)?$/.test(node.expression.getText());
      const [argument] = node.arguments;
      if (dynamic && argument && ts.isStringLiteral(argument)) addImport(node, argument.text, false);
    } else if (ts.isNewExpression(node) && node.expression.getText() === 'URL') {
      const [argument] = node.arguments ?? [];
      if (argument && ts.isStringLiteral(argument) && /^\..*\.js$/.test(argument.text))
        addImport(node, argument.text, false); // a worker's entry
    } else if (ts.isPropertyAccessExpression(node) && node.getText() === 'process.env')
      environment.push(lineOf(node.getStart()));
    else if (ts.isFunctionLike(node) && 'body' in node && node.body) {
      const start = lineOf(node.getStart());
      functions.push({ name: functionName(node), line: start, lines: lineOf(node.getEnd()) - start + 1 });
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return { path, lines: text.split('\n').length - 1, imports, functions, environment };
}

const sources = readdirSync(`${root}src`, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts') && !path.endsWith('.gen.ts'))
  .sort()
  .map(parse);

const isUnder = (path: string, place: string) => path === place || path.startsWith(`${place}/`);

/** The longest row of the table that holds the file. */
function folderOf(path: string): string | null {
  const rows = Object.keys(folders).filter((folder) => isUnder(path, folder));
  return rows.sort((left, right) => right.length - left.length)[0] ?? null;
}

const mayImport = (from: string, { target, typeOnly }: Import & { readonly target: string }): boolean => {
  const [source, destination] = [folderOf(from), folderOf(target)];
  if (source === null || destination === null) return false;
  if (source === destination || (typeOnly && seams.has(target))) return true;
  if (source === 'cli' && destination === 'server') return cliMayImport.has(target);
  return folders[source]?.includes(destination) ?? false;
};

test('every source file is in a folder of the table', () => {
  const homeless = sources.filter(({ path }) => folderOf(path) === null).map(({ path }) => path);
  assert.deepEqual(homeless, []);
  const subfolders = sources.filter(({ path }) => folderOf(path) === 'models' && path.split('/').length > 2);
  assert.deepEqual(
    subfolders.map(({ path }) => path),
    [],
    'a folder under models/ needs its own row',
  );
});

test('imports go one way', () => {
  const wrong = sources.flatMap(({ path, imports }) =>
    imports.flatMap((edge) =>
      edge.target === null || mayImport(path, { ...edge, target: edge.target })
        ? []
        : `src/${path}:${edge.line} imports ${edge.typeOnly ? 'types of ' : ''}src/${edge.target}`,
    ),
  );
  assert.deepEqual(wrong, []);
});

test('a package is imported by its owner alone', () => {
  const packageOf = (specifier: string) => /^(@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? specifier;
  const wrong = sources.flatMap(({ path, imports }) =>
    imports
      .filter(({ target, specifier }) => target === null && !specifier.startsWith('node:'))
      .filter(({ specifier }) => !isUnder(path, packages[packageOf(specifier)] ?? 'nobody'))
      .map(({ line, specifier }) => `src/${path}:${line} imports ${specifier}`),
  );
  assert.deepEqual(wrong, []);
});

test('every dependency has an owner', () => {
  const { dependencies } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
    dependencies: Record<string, string>;
  };
  assert.deepEqual(
    Object.keys(dependencies).filter((name) => !(name in packages)),
    [],
  );
});

test('process.env is read in the configuration and the CLI only', () => {
  const wrong = sources
    .filter(({ path }) => !readsEnvironment.some((place) => isUnder(path, place)))
    .flatMap(({ path, environment }) => environment.map((line) => `src/${path}:${line}`));
  assert.deepEqual(wrong, []);
});

test('no import cycle, types included', () => {
  const edges = new Map(
    sources.map(({ path, imports }) => [path, imports.flatMap(({ target }) => target ?? [])] as const),
  );
  const done = new Set<string>();
  const cycles: string[] = [];
  const walk = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
    if (done.has(path) || trail.includes(path)) return;
    for (const next of edges.get(path) ?? []) walk(next, [...trail, path]);
    done.add(path);
  };
  for (const path of edges.keys()) walk(path, []);
  assert.deepEqual(cycles, []);
});

test('a file name says what is in it, once', () => {
  const vague = /^(index|utils?|helpers?|common|shared|types|misc)\.ts$/;
  const first = new Map<string, string>();
  const wrong = sources.flatMap(({ path }) => {
    const name = basename(path);
    const other = first.get(name);
    first.set(name, path);
    if (vague.test(name)) return `src/${path}`;
    return other === undefined || entries.has(name) ? [] : `src/${path} has the name of src/${other}`;
  });
  assert.deepEqual(wrong, []);
});

test(`files stay under ${FILE_LINES} lines and functions under ${FUNCTION_LINES}`, () => {
  const long = new Map<string, string>();
  for (const { path, lines, functions } of sources) {
    if (lines > FILE_LINES) long.set(path, `src/${path}: ${lines} lines`);
    for (const { name, line, lines } of functions)
      if (lines > FUNCTION_LINES) long.set(`${path}#${name}`, `src/${path}:${line} ${name}: ${lines} lines`);
  }
  const wrong = [...long].flatMap(([key, text]) => (key in mayBeLonger ? [] : text));
  const stale = Object.keys(mayBeLonger).filter((key) => !long.has(key));
  assert.deepEqual({ wrong, stale }, { wrong: [], stale: [] });
});
