/**
 * Approval of a part of a request: the checkboxes on the page, and the authorization details that remain if the user
 * clears some of the checkboxes.
 */
import type { Form } from '../platform/http/form.ts'
import type { ShownRequest } from './device-api.ts'

/**
 * Maximum number of checkboxes on a page. It is limited, because the number of parameters in a form is limited. A
 * request that needs more checkboxes gets none. The user can then only approve or deny the whole request.
 */
const mostBoxes = 80

/** A checkbox on the page. */
export interface DetailCheckbox {
  /** The form parameter of the box. */
  name: string
  text: string
}

/**
 * Returns the checkboxes of each of the authorization details. There are none if the user is not allowed to leave out
 * anything, or if there would be more than `mostBoxes`.
 */
export function checkboxesOf({ authorization_details_text: texts = [] }: ShownRequest): DetailCheckbox[][] {
  const boxes = texts.map(({ choices = [] }, index) =>
    choices.flatMap(({ members }, list) =>
      members.map((text, member) => ({ name: boxName(index, list, member), text })),
    ),
  )
  return boxes.flat().length > mostBoxes ? [] : boxes
}

/**
 * Returns the approved authorization details. If the page had no checkboxes, returns undefined, which means all
 * details.
 */
export function approvedIn(form: Form, request: ShownRequest): Record<string, unknown>[] | undefined {
  if (checkboxesOf(request).flat().length === 0) return undefined
  return request.authorization_details?.map((detail, index) => {
    const lists = (request.authorization_details_text?.[index]?.choices ?? []).map(({ field }, list) => {
      const members = (detail[field] as unknown[]).filter((_, member) => form.has(boxName(index, list, member)))
      return [field, members]
    })
    return { ...detail, ...Object.fromEntries(lists) }
  })
}

function boxName(detail: number, list: number, member: number): string {
  return `detail.${detail}.${list}.${member}`
}
