// The certified provider `oidc-provider`, as a CI system would run one: node provider.mjs <port> <jwks as JSON>
// node provider.mjs <port> <jwks> [address to return to after a sign-in]
// Accounts are repositories, or people by their addresses; their ID tokens say which. Ends when its standard input does.
import { createRequire } from 'node:module';

const require = createRequire(process.env.OIDC_MODULES + '/');
const { Provider } = await import(require.resolve('oidc-provider'));
const [port, jwks] = [Number(process.argv[2]), JSON.parse(process.argv[3])];
const issuer = `http://127.0.0.1:${port}`;

const provider = new Provider(issuer, {
  jwks,
  clients: [
    {
      client_id: 'remit',
      token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1:1/back'],
      grant_types: ['authorization_code'],
      response_types: ['code'],
      application_type: 'native',
      id_token_signed_response_alg: jwks.keys[0].alg,
    },
    {
      client_id: 'sign-in',
      client_secret: 'the-secret-of-remit-at-the-provider',
      redirect_uris: [process.argv[4] ?? 'http://127.0.0.1:1/back'],
      grant_types: ['authorization_code'],
      response_types: ['code'],
      application_type: 'native',
      id_token_signed_response_alg: jwks.keys[0].alg,
    },
    { client_id: 'machine', client_secret: 'machine-secret', redirect_uris: [], response_types: [], grant_types: ['client_credentials'] },
  ],
  claims: { openid: ['sub', 'repository', 'repository_owner'], email: ['email', 'email_verified'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['only for tests'] },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:remit',
      getResourceServerInfo: () => ({ scope: '', audience: 'remit', accessTokenFormat: 'jwt', jwt: { sign: { alg: jwks.keys[0].alg } } }),
    },
  },
  ttl: { IdToken: 300, AccessToken: 300 },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: id, email_verified: !id.startsWith('unverified'), repository: id.replace('repo:', ''), repository_owner: id.replace('repo:', '').split('/')[0] }),
  }),
});

provider.on('server_error', (_context, error) => console.error(error));
provider.listen(port, '127.0.0.1', () => console.log('ready'));
process.stdin.on('end', () => process.exit(0)).resume();
