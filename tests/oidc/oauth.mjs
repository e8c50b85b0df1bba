// The certified provider `oidc-provider` as one that gives access tokens to machines: node oauth.mjs <port> <public JWK of the client `signer`>
// Client credentials, revocation, introspection and rich authorization requests are its own; token exchange it leaves to its users, so that
// grant is written here: a subject token is what the client `machine` was given, and who names no scope gets all of it without being told, as
// RFC 6749 §3.3 lets a provider do. A line on standard input changes its clock, the life of
// its tokens, or whether it listens.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(process.env.OIDC_MODULES + '/');
const { Provider, errors } = await import(require.resolve('oidc-provider'));
const [port, jwk] = [Number(process.argv[2]), JSON.parse(process.argv[3])];
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const client = (client_id, more) => ({ client_id, redirect_uris: [], response_types: [], grant_types: ['client_credentials', EXCHANGE], ...more });
const [now, how] = [Date.now, { ahead: 0, ttl: 600 }];
Date.now = () => now() + how.ahead * 1000;

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    client('machine', { client_secret: 'a secret: 100% & more' }),
    client('poster', { client_secret: 'poster-secret', token_endpoint_auth_method: 'client_secret_post' }),
    client('signer', { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [jwk] } }),
  ],
  scopes: ['orders.read', 'orders.write', 'salaries.read'],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource) => {
        if (resource !== 'https://orders.example') throw new errors.InvalidTarget();
        return { scope: 'orders.read orders.write', audience: resource, accessTokenFormat: 'opaque' };
      },
    },
  },
  ttl: { ClientCredentials: () => how.ttl, AccessToken: () => how.ttl },
});

const live = new Map();
for (const kind of ['client_credentials', 'access_token']) {
  provider.on(`${kind}.saved`, (token) => live.set(token.jti, Date.now() / 1000 + token.expiration));
  provider.on(`${kind}.destroyed`, (token) => live.delete(token.jti));
}

provider.registerGrantType(EXCHANGE, async (ctx) => {
  const { params, client } = ctx.oidc;
  const subject = await provider.ClientCredentials.find(params.subject_token);
  if (!subject) throw new errors.InvalidGrant('subject_token');
  const token = new provider.ClientCredentials({ client, scope: params.scope ?? subject.scope });
  const value = await token.save();
  ctx.body = { access_token: value, issued_token_type: 'urn:ietf:params:oauth:token-type:access_token', token_type: 'Bearer', expires_in: token.expiration, scope: params.scope };
}, ['subject_token', 'subject_token_type', 'requested_token_type', 'scope', 'resource', 'audience']);

provider.use(async (ctx, next) => {
  if (ctx.path !== '/live') return next();
  ctx.body = [...live].filter(([, ends]) => ends > Date.now() / 1000).map(([jti]) => jti);
});
provider.on('server_error', (_context, error) => console.error(error));
let server = provider.listen(port, '127.0.0.1', () => console.log('ready'));
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { listening, ...more } = JSON.parse(line);
    if (more.ahead === 0) live.clear(); // what was over when the clock was ahead is nobody's any more
    Object.assign(how, more);
    if (listening === undefined) console.log('done');
    else if (listening) server = provider.listen(port, '127.0.0.1', () => console.log('done'));
    else { server.close(() => console.log('done')); server.closeAllConnections(); }
  })
  .on('close', () => process.exit(0));
