// Ask a TensorFlow.js model in Node: `node ask_web.mjs VERSION_FOLDER NODE_MODULES < answer.json`, where answer.json is
// what ask.py printed and NODE_MODULES has TensorFlow.js (`make install` puts it into .venv/node_modules).
// A page does the same with `tf.loadGraphModel('https://.../model.json')`; only reading from a disk is Node's.
import {createRequire} from 'node:module';
import {readFileSync} from 'node:fs';
import {join, resolve} from 'node:path';

const [folder, modules] = process.argv.slice(2);
const load = createRequire(join(resolve(modules), 'any'));
const tf = load('@tensorflow/tfjs-core');
const {loadGraphModel} = load('@tensorflow/tfjs-converter');
load('@tensorflow/tfjs-backend-cpu');

const description = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));
const groups = description.weightsManifest;
const weights = Buffer.concat(groups.flatMap(({paths}) => paths.map((path) => readFileSync(join(folder, path)))));
const model = await loadGraphModel({
  load: async () => ({
    ...description,
    weightSpecs: groups.flatMap((group) => group.weights),
    weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.byteLength),
  }),
});

const {features} = JSON.parse(readFileSync(0, 'utf8'));
const inputs = Object.values(description.signature.inputs).map(({name, dtype}) => {
  const feature = name.replace(/:0$/, '');
  return [feature, tf.tensor(features[feature], undefined, dtype === 'DT_FLOAT' ? 'float32' : 'int32')];
});
const {probabilities} = model.predict(Object.fromEntries(inputs));
console.log(JSON.stringify([...(await probabilities.data())]));
