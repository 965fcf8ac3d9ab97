// `node ask_tfjs.mjs JOB`: what a graph model answers. The job is {model, library, feeds}, see tfjs.py; `library` is
// the node_modules folder that has TensorFlow.js.
// The pure JavaScript backend: no native addon to install, and the same kernels as in browsers without WebGL.
import {createRequire} from 'node:module';
import {readFileSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';

const path = process.argv[2];
const job = JSON.parse(readFileSync(path, 'utf8'));
const load = createRequire(join(job.library, 'any'));
const tf = load('@tensorflow/tfjs-core');
const {loadGraphModel} = load('@tensorflow/tfjs-converter');
load('@tensorflow/tfjs-backend-cpu');
const ODD = {nan: NaN, inf: Infinity, '-inf': -Infinity};

function fromDisk(folder) {
  return {
    load: async () => {
      const description = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));
      const parts = description.weightsManifest.flatMap((group) => group.paths);
      const bytes = Buffer.concat(parts.map((part) => readFileSync(join(folder, part))));
      return {
        ...description,
        weightSpecs: description.weightsManifest.flatMap((group) => group.weights),
        weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
      };
    },
  };
}

function tensor({dtype, shape, values}) {
  const numbers = values.map((x) => (typeof x === 'string' ? ODD[x] : x));
  // There are no 64-bit integers there: what counts is that they fit.
  return tf.tensor(numbers, shape, dtype.startsWith('float') ? 'float32' : dtype === 'bool' ? 'bool' : 'int32');
}

async function said(answer) {
  const values = [...(await answer.data())].map((x) => (Number.isFinite(x) || typeof x !== 'number' ? x : String(x)));
  return {dtype: answer.dtype === 'string' ? 'str' : answer.dtype, shape: answer.shape, values};
}

await tf.setBackend('cpu');
const model = await loadGraphModel(fromDisk(job.model));
const answers = [];
for (const batch of job.feeds) {
  const feeds = Object.fromEntries(Object.entries(batch).map(([name, value]) => [name, tensor(value)]));
  const answer = await model.predictAsync(feeds);
  const entries = await Promise.all(Object.entries(answer).map(async ([name, value]) => [name, await said(value)]));
  answers.push(Object.fromEntries(entries));
}
writeFileSync(join(dirname(path), 'answer.json'), JSON.stringify({answers}));
