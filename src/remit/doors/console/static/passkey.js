// Asks the browser for a passkey where a form wants one, and sends the answer with it (WebAuthn Level 3, JSON forms of §5.1.8 and §5.1.9).

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const known = (list) => (list ?? []).map((one) => ({ ...one, id: bytes(one.id) }));

async function prove(json) {
  const options = JSON.parse(json);
  const found = await navigator.credentials.get({
    publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials: known(options.allowCredentials) },
  });
  const { authenticatorData, clientDataJSON, signature, userHandle } = found.response;
  return JSON.stringify({
    id: found.id, rawId: text(found.rawId), type: found.type, clientExtensionResults: {},
    response: {
      authenticatorData: text(authenticatorData), clientDataJSON: text(clientDataJSON), signature: text(signature),
      userHandle: userHandle ? text(userHandle) : undefined,
    },
  });
}

async function register(json) {
  const options = JSON.parse(json);
  const made = await navigator.credentials.create({
    publicKey: {
      ...options, challenge: bytes(options.challenge), user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: known(options.excludeCredentials),
    },
  });
  const { attestationObject, clientDataJSON } = made.response;
  return JSON.stringify({
    id: made.id, rawId: text(made.rawId), type: made.type, clientExtensionResults: {},
    response: { attestationObject: text(attestationObject), clientDataJSON: text(clientDataJSON) },
  });
}

for (const form of document.querySelectorAll("form[data-passkey], form[data-register]")) {
  form.addEventListener("submit", async (event) => {
    const pressed = event.submitter;
    if (form.dataset.passkey && pressed?.value !== "approve") return; // a no takes none
    event.preventDefault();
    const said = form.querySelector("[data-passkey-said]");
    said.textContent = "";
    try {
      if (form.dataset.prove) form.elements.proof.value = await prove(form.dataset.prove);
      form.elements.passkey.value = await (form.dataset.register ? register(form.dataset.register) : prove(form.dataset.passkey));
    } catch (error) {
      said.textContent = `No passkey was used: ${error.message}`;
      return;
    }
    if (pressed?.name) {
      const chosen = Object.assign(document.createElement("input"), { type: "hidden", name: pressed.name, value: pressed.value });
      form.append(chosen);
    }
    form.submit();
  });
}
