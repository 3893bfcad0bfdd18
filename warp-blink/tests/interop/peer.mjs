// A node of js-libp2p that does what the lines on its input say, and tells what happens on its output: one JSON value a line.
// Run by `make test-interop` (tests/node/interop.rs). It ends with its input, so also when whoever runs it is killed.
//
// Its argument is {"listen": true, "sign": "StrictNoSign", "protocols": ["/warp-blink/gossip/1"]}.

import './older.mjs'
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const wish = JSON.parse(process.argv[2])
const tell = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const hex = (bytes) => Buffer.from(bytes).toString('hex')

// As in driver/node/tuning.rs: SHA-256 over the length of the topic, the topic and the data.
function messageId ({ topic, data }) {
  const name = Buffer.from(topic)
  const length = Buffer.alloc(8)
  length.writeBigUInt64BE(BigInt(name.length))
  return createHash('sha256').update(length).update(name).update(data).digest()
}

const node = await createLibp2p({
  addresses: { listen: wish.listen ? ['/ip4/127.0.0.1/tcp/0'] : [] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    pubsub: (components) => {
      const made = gossipsub({
        globalSignaturePolicy: wish.sign,
        msgIdFn: wish.sign === 'StrictNoSign' ? messageId : undefined,
        fallbackToFloodsub: false,
        allowPublishToZeroTopicPeers: false
      })(components)
      // What an app does to speak another gossip than that of everybody.
      made.protocols = wish.protocols
      return made
    }
  }
})
const { pubsub } = node.services

node.addEventListener('peer:connect', ({ detail }) => tell({ is: 'connected', peer: detail.toString() }))
node.addEventListener('peer:disconnect', ({ detail }) => tell({ is: 'disconnected', peer: detail.toString() }))
pubsub.addEventListener('subscription-change', ({ detail }) => {
  for (const { topic, subscribe } of detail.subscriptions) {
    tell({ is: subscribe ? 'subscribed' : 'unsubscribed', peer: detail.peerId.toString(), topic })
  }
})
pubsub.addEventListener('gossipsub:graft', ({ detail }) => tell({ is: 'graft', peer: detail.peerId, topic: detail.topic }))
pubsub.addEventListener('gossipsub:message', async ({ detail: { propagationSource, msg } }) => {
  // The last 64 bytes of what the tests send are its author's signature over the rest.
  const [text, signature] = [msg.data.subarray(0, -64), msg.data.subarray(-64)]
  tell({
    is: 'message',
    bearer: propagationSource.toString(),
    // On the message itself, where ours has none.
    author: msg.type === 'signed' ? msg.from.toString() : null,
    by_bearer: await propagationSource.publicKey.verify(text, signature),
    topic: msg.topic,
    data: hex(msg.data)
  })
})

const orders = {
  async dial ({ address }) {
    await node.dial(multiaddr(address))
  },
  async hang_up () {
    await Promise.all(node.getConnections().map((connection) => connection.close()))
  },
  async subscribe ({ topic }) {
    pubsub.subscribe(topic)
  },
  // Signs what is to be said with the node's key, and says both.
  async say ({ topic, data }) {
    const text = Buffer.from(data, 'hex')
    const signature = await node.services.pubsub.components.privateKey.sign(text)
    await orders.publish({ topic, data: hex(Buffer.concat([text, signature])) })
  },
  async publish ({ topic, data }) {
    const { recipients } = await pubsub.publish(topic, Buffer.from(data, 'hex'))
    tell({ is: 'published', to: recipients.map(String) })
  }
}

tell({ is: 'ready', peer: node.peerId.toString(), addresses: node.getMultiaddrs().map(String) })
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line)
  await orders[order.do](order).catch((error) => tell({ is: 'failed', order: order.do, why: String(error) }))
}
process.exit(0)
