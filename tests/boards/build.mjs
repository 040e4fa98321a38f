// Bundles the drawing program: node build.mjs MODULES OUT, where MODULES is a node_modules folder.
import { copyFileSync, cpSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const [modules, out] = process.argv.slice(2);
const { build } = createRequire(join(modules, 'any.js'))('esbuild');

// Editors and maps, which no panel of ours has, and which would be half of the bundle.
const unused = {
  name: 'unused',
  setup(bundle) {
    bundle.onResolve({ filter: /^(monaco-editor|@monaco-editor|ol|ol-mapbox-style|slate)(\/|$)/ }, ({ path }) => ({ path, namespace: 'unused' }));
    bundle.onLoad({ filter: /.*/, namespace: 'unused' }, () => ({ contents: 'module.exports = new Proxy({}, { get: () => () => null })', loader: 'js' }));
  },
};

const scrollbars = {
  name: 'scrollbars',
  setup(bundle) {
    bundle.onResolve({ filter: /^react-custom-scrollbars-2$/ }, () => ({ path: join(here, 'src', 'scrollbars.ts') }));
  },
};

await build({
  entryPoints: [join(here, 'src', 'main.tsx')],
  outfile: join(out, 'bundle.js'),
  bundle: true,
  minify: true,
  format: 'iife',
  jsx: 'automatic',
  nodePaths: [modules],
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'text', '.ttf': 'empty' },
  plugins: [unused, scrollbars],
  logLevel: 'warning',
});
const fonts = join(out, 'public', 'fonts');
for (const [family, name, file] of [
  ['inter', 'Inter-Regular', 'inter-latin-400-normal'],
  ['inter', 'Inter-Medium', 'inter-latin-500-normal'],
  ['roboto', 'RobotoMono-Regular', 'roboto-mono-latin-400-normal'],
]) {
  mkdirSync(join(fonts, family), { recursive: true });
  const source = join(modules, '@fontsource', family === 'inter' ? 'inter' : 'roboto-mono', 'files', `${file}.woff2`);
  copyFileSync(source, join(fonts, family, `${name}.woff2`));
}
cpSync(join(modules, '@grafana', 'ui', 'dist', 'public'), join(out, 'public'), { recursive: true });
copyFileSync(join(here, 'index.html'), join(out, 'index.html'));
