/** 1 to 255 printable ASCII characters without spaces: the id becomes the subject (`sub`) of tokens. */
export const userIdPattern = /^[\x21-\x7e]{1,255}$/

/** Whether a value, such as the id that an application's hook has returned, can be the id of a user. */
export function isUserId(value: unknown): value is string {
  return typeof value === 'string' && userIdPattern.test(value)
}
