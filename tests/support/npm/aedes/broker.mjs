// Run aedes on a port of this machine. Prints "ready" when clients can connect.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker()
createServer(broker.handle).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'))
