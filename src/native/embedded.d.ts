/** The compiled shim, embedded as a file: the default export is its path. */
declare module "*.so" {
  const path: string;
  export default path;
}
