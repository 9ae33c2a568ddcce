import { Command, CommanderError, Option } from 'commander';
import { reportError } from './output.js';

/**
 * The command line. This file knows names, options and help only: each command's own module is loaded when the command runs, so that
 * `--help` starts nothing.
 */

const quantization = () =>
  new Option('--quantization <form>', 'how weights are held; default int8 on the CPU, none on CUDA').choices([
    'none',
    'int8',
    'int4',
  ]);
const json = () => new Option('--json', 'one JSON document on stdout, no progress');

function modelsCommand(): Command {
  const models = new Command('models').description(
    'models of the running service, or of DATA_DIR where no service runs',
  );
  models
    .command('import')
    .description('import a checkpoint in Hugging Face layout: a directory, or a model of a hub')
    .argument('<source>', 'directory, or organisation/name on the hub')
    .option('--name <name>', "name to serve it under; default: the source's last part")
    .addOption(quantization())
    .option('--revision <revision>', "the hub's branch, tag or commit (default: main)")
    .addOption(json())
    .addHelpText(
      'after',
      `
Weights are copied: the source is not needed afterwards. Gated models need HF_TOKEN; another hub is set by HF_ENDPOINT.

Examples:
  instructd models import HuggingFaceTB/SmolLM2-135M-Instruct --name smollm2
  instructd models import ./checkpoints/step-400 --name mine --quantization none`,
    )
    .action(async (source, options) => (await import('./models-command.js')).importModel(source, options));
  models
    .command('list')
    .alias('ls')
    .description('list models')
    .addOption(json())
    .addHelpText('after', '\nExamples:\n  instructd models list\n  instructd models list --json')
    .action(async (options) => (await import('./models-command.js')).listModels(options));
  models
    .command('remove')
    .alias('rm')
    .description('remove models and their files')
    .argument('<names...>')
    .addOption(json())
    .addHelpText('after', '\nExample:\n  instructd models remove smollm2')
    .action(async (names, options) => (await import('./models-command.js')).removeModels(names, options));
  return models;
}

const generation = (name: string, description: string): Command =>
  new Command(name)
    .description(description)
    .argument('<model>')
    .argument('[text...]', 'default: what stdin says')
    .option('-n, --max-tokens <n>', 'most tokens to generate')
    .option('-t, --temperature <t>', '0 takes the most likely token')
    .option('--seed <n>', 'same seed, same text');

function chatCommand(): Command {
  return generation('chat', 'ask a model; the answer streams to stdout')
    .option('--system <text>', 'system message')
    .addHelpText(
      'after',
      `
Examples:
  instructd chat smollm2 What is the capital of France?
  echo "Write a haiku about rain." | instructd chat smollm2 --temperature 0.7 --seed 1`,
    )
    .action(async (model, text, options) =>
      (await import('./generate-command.js')).chat(model, text, options),
    );
}

function completeCommand(): Command {
  return generation('complete', 'let a model continue a text; it streams to stdout')
    .addHelpText('after', '\nExample:\n  instructd complete smollm2 "Once upon a time" --max-tokens 40')
    .action(async (model, text, options) =>
      (await import('./generate-command.js')).complete(model, text, options),
    );
}

function verifyCommand(): Command {
  return new Command('verify')
    .description('compare a checkpoint with the reference outputs that lie in its directory')
    .argument('<directory>', 'a checkpoint with reference.safetensors or reference.json')
    .addOption(json())
    .addHelpText(
      'after',
      `
Runs in float32 on the CPU, without a service; prints the largest error of each quantity and ends with 1 where one is over its bound.

Example:
  instructd verify ./checkpoints/tiny-llama`,
    )
    .action(async (directory, options) => (await import('./verify-command.js')).verify(directory, options));
}

function serveCommand(): Command {
  return new Command('serve')
    .description('start the service')
    .option('--port <port>', 'PORT (default: 8080)')
    .option('--host <host>', 'HOST (default: 127.0.0.1)')
    .option('--data-dir <directory>', 'DATA_DIR (default: ./.instructd)')
    .addOption(new Option('--provider <provider>', 'PROVIDER').choices(['auto', 'cpu', 'cuda']))
    .option('--threads <n>', 'THREADS of a model (default: all cores)')
    .addHelpText(
      'after',
      `
Options win over environment variables; docs/operations.md lists those.

Examples:
  instructd serve
  instructd serve --host 0.0.0.0 --port 9000 --data-dir /var/lib/instructd`,
    )
    .action(async (options) => (await import('./serve-command.js')).serve(options));
}

function program(): Command {
  const instructd = new Command('instructd')
    .description('The InstructGPT system as one service: train, align, measure and serve language models.')
    .addHelpText(
      'after',
      `
The service is found at INSTRUCTD_URL (default http://127.0.0.1:$PORT); the key is INSTRUCTD_API_KEY, or the one in DATA_DIR.

First completion:
  instructd models import HuggingFaceTB/SmolLM2-135M-Instruct --name smollm2
  instructd serve &
  instructd chat smollm2 "What is the capital of France?"`,
    );
  const commands = [serveCommand(), modelsCommand(), chatCommand(), completeCommand(), verifyCommand()];
  for (const command of commands) instructd.addCommand(command);
  return instructd;
}

/** Every command reports its errors in one way, wherever in the tree it stands. */
function throwing(command: Command): Command {
  command.exitOverride();
  for (const child of command.commands) throwing(child);
  return command;
}

/**
 * Runs one command and sets the process's exit code: 0 only on success, 2 for a command line that cannot be read.
 * @param argv As process.argv.
 */
export async function main(argv: readonly string[]): Promise<void> {
  try {
    await throwing(program()).parseAsync([...argv]);
  } catch (error) {
    // Commander has printed help, or what is wrong with the command line, before it throws.
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
    else reportError(error, argv.includes('--json'));
  }
}
