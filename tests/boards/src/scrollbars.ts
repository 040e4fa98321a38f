// The package's ES module names a default export that bundlers do not find.
export { Scrollbars as default, Scrollbars } from 'react-custom-scrollbars-2/lib/index.js';
