// Reads {secret, headers, body} from its input, and writes the webhook's type if its signature is good.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const { secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(new Webhook(secret).verify(body, headers).type);
