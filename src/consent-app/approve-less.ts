/** Approving less than was asked: the boxes on the page, and what is left when some of them are not ticked. */
import type { Form } from '../platform/http/form.ts'
import type { ShownRequest } from './device-api.ts'

/** More boxes than a form may have parameters: then it is all or nothing. */
const mostBoxes = 80

export interface Box {
  /** The parameter that says it is ticked. */
  name: string
  text: string
}

/** The boxes of each detail; none where nothing may be left out. */
export function boxesOf({ authorization_details_text: texts = [] }: ShownRequest): Box[][] {
  const boxes = texts.map(({ choices = [] }, index) =>
    choices.flatMap(({ members }, list) =>
      members.map((text, member) => ({ name: boxName(index, list, member), text })),
    ),
  )
  return boxes.flat().length > mostBoxes ? [] : boxes
}

/** What is approved, if the page had boxes; nothing if all of it is. */
export function approvedIn(form: Form, request: ShownRequest): Record<string, unknown>[] | undefined {
  if (boxesOf(request).flat().length === 0) return undefined
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
