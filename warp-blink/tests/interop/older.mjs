// What js-libp2p takes from Node 22 and Debian's Node 20 does not have.
Promise.withResolvers ??= function () {
  const made = {}
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}
